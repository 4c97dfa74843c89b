#include "vbon/train/exact.hpp"

#include <ATen/TensorOperators.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "vbon/base/error.hpp"
#include "vbon/objective/enumerated.hpp"
#include "vbon/objective/vbon.hpp"
#include "vbon/train/batch_pass.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

constexpr std::int64_t kMostResponses = 200'000;  // of a prompt

// One prompt with all its responses.
struct Listed {
  std::vector<double> log_policy, log_reference, pi_reference, rewards;
  std::vector<Quantiles> quantiles;
  std::vector<std::vector<Quantiles>> more;  // of each reward of section rewards

  double mean(const std::function<double(std::size_t)>& value, const std::vector<double>& log_pi) const {
    double sum = 0;
    for (std::size_t y = 0; y < log_pi.size(); ++y)
      if (const double p = std::exp(log_pi[y]); p > 0) sum += p * value(y);
    return sum;
  }
  double half(std::size_t y) const { return 0.5 * (quantiles[y].f_strict + quantiles[y].f); }

  // KL(pi || pi_ref e^{value} / Z).
  double kl_to_tilt(const std::function<double(std::size_t)>& value) const {
    std::vector<double> log_target;
    double highest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (std::size_t y = 0; y < log_reference.size(); ++y) {
      log_target.push_back(log_reference[y] + value(y));
      highest = std::max(highest, log_target.back());
    }
    for (const double l : log_target) sum += std::exp(l - highest);
    for (double& l : log_target) l -= highest + std::log(sum);
    return enumerated_kl(log_policy, log_target);
  }
};

class Lister {
 public:
  Lister(const Settings& settings, const Tokenizer& tokenizer, RewardModel& reward,
         const std::vector<RewardModel*>& more, const CausalLm& reference, const Policy& policy)
      : settings_(settings), tokenizer_(tokenizer), reward_(reward), more_(more), reference_(reference),
        policy_(policy) {
    const std::vector<std::int32_t> eos(reference.spec.eos_ids.begin(), reference.spec.eos_ids.end());
    responses_ = all_responses(reference.spec.vocab_size, eos, settings.sampling.max_new_tokens, kMostResponses);
    std::sort(responses_.begin(), responses_.end());  // the order that breaks ties
    for (const auto& response : responses_) texts_.push_back(tokenizer_.decode(response));
  }

  Listed list(std::span<const std::int32_t> prompt, std::string_view text) const {
    std::vector<Sequence> sequences;
    for (const auto& response : responses_) sequences.push_back({prompt, response});
    BatchPass pass(reference_, policy_, sequences, {settings_.sampling.temperature, settings_.train.micro_batch, 0});
    const Measured measured = measure(pass, policy_, Critic{.kind = Baseline::none}, std::array{Share{0, pass.size()}},
                                      settings_.sampling.max_new_tokens);
    Listed listed;
    listed.log_policy = sums(measured.logp);
    listed.log_reference = sums(measured.logp_reference);
    for (const double l : listed.log_reference) listed.pi_reference.push_back(std::exp(l));
    std::vector<PromptResponse> requests;
    for (const std::string& response : texts_) requests.push_back({text, response});
    for (const float r : reward_.score(requests)) listed.rewards.push_back(r);
    listed.quantiles = enumerated_quantiles(listed.pi_reference, listed.rewards, settings_.vbon.ties);
    for (RewardModel* more : more_) {
      const std::vector<float> scores = more->score(requests);
      const std::vector<double> rewards(scores.begin(), scores.end());
      listed.more.push_back(enumerated_quantiles(listed.pi_reference, rewards, settings_.vbon.ties));
    }
    return listed;
  }

 private:
  static std::vector<double> sums(const at::Tensor& per_token) {
    const at::Tensor sum = per_token.to(at::kDouble).sum(-1).contiguous();
    return {sum.const_data_ptr<double>(), sum.const_data_ptr<double>() + sum.numel()};
  }

  const Settings& settings_;
  const Tokenizer& tokenizer_;
  RewardModel& reward_;
  const std::vector<RewardModel*>& more_;
  const CausalLm& reference_;
  const Policy& policy_;
  std::vector<std::vector<std::int32_t>> responses_;
  std::vector<std::string> texts_;
};

// log of the target's density against the reference, but for a constant.
double log_target(const Settings& settings, const Listed& p, std::size_t y) {
  double log_w = log_weight(settings.vbon, {.exact = p.quantiles[y]});
  std::size_t k = 0;
  for (const auto& [name, more] : settings.rewards) {
    if (more.n > 1) log_w += log_weight(with_n(settings.vbon, more.n), {.exact = p.more[k][y]});
    ++k;
  }
  return log_w;
}

double kl_to_target(const Settings& settings, const Listed& p) {
  return p.kl_to_tilt([&](std::size_t y) { return log_target(settings, p, y); });
}

std::optional<double> kl_to_optimum(const Settings& settings, const Listed& p) {
  const double beta = strength_of(settings).beta;
  switch (settings.train.method) {
    case Method::vbon:
      if (settings.vbon.objective == Objective::L1) return std::nullopt;
      [[fallthrough]];
    case Method::jeffreys:
    case Method::regression:
    case Method::infonca:
    case Method::bon_sft: return kl_to_target(settings, p);
    case Method::bond:  // with the quantile reward its two terms have different optima
      if (settings.bond.reward != BondReward::full || settings.bond.quantile != BondQuantile::pool) return std::nullopt;
      return kl_to_target(settings, p);
    case Method::dpo:  // whose labels have to be as uncertain as the rewards say
      if (settings.preference.labels == Labels::hard || settings.preference.label_smoothing > 0) return std::nullopt;
      [[fallthrough]];
    case Method::ppo: return p.kl_to_tilt([&](std::size_t y) { return p.rewards[y] / beta; });
    case Method::ipo:
      if (settings.preference.labels != Labels::hard) return std::nullopt;
      return p.kl_to_tilt([&](std::size_t y) { return p.half(y) / beta; });
    default: return std::nullopt;
  }
}

}  // namespace

std::vector<std::vector<std::int32_t>> all_responses(std::int64_t vocab_size, std::span<const std::int32_t> eos_ids,
                                                     std::int64_t max_tokens, std::int64_t most) {
  std::vector<std::vector<std::int32_t>> done, open = {{}};
  for (std::int64_t length = 1; length <= max_tokens; ++length) {
    std::vector<std::vector<std::int32_t>> longer;
    for (const auto& response : open)
      for (std::int32_t token = 0; token < vocab_size; ++token) {
        require(
            std::ssize(done) + std::ssize(longer) < most,
            "eval.exact: a prompt has more than {} responses of {} tokens from a vocabulary of {}; it is for models "
            "small enough to list them",
            most, max_tokens, vocab_size);
        const bool ends = std::find(eos_ids.begin(), eos_ids.end(), token) != eos_ids.end() || length == max_tokens;
        auto& into = ends ? done : longer;
        into.push_back(response);
        into.back().push_back(token);
      }
    open = std::move(longer);
  }
  return done;
}

void require_listable(const Settings& settings, const LmSpec& spec) {
  const std::vector<std::int32_t> eos(spec.eos_ids.begin(), spec.eos_ids.end());
  all_responses(spec.vocab_size, eos, settings.sampling.max_new_tokens, kMostResponses);
}

std::map<std::string, double> exact_figures(const Settings& settings, const Prompts& prompts,
                                            const Tokenizer& tokenizer, RewardModel& reward,
                                            const std::vector<RewardModel*>& more, const CausalLm& reference,
                                            const Policy& policy) {
  const Lister lister(settings, tokenizer, reward, more, reference, policy);
  const std::int64_t count = prompts.rows.num_prompts();
  std::map<std::string, double> figures;
  const auto add = [&](const std::string& name, double value) { figures[name] += value / static_cast<double>(count); };
  for (std::int64_t row = 0; row < count; ++row) {
    const Listed p = lister.list(prompts.rows.tokens_of(row), prompts.rows.text[idx(row)]);
    const auto reward_of = [&](std::size_t y) { return p.rewards[y]; };
    const auto half = [&](std::size_t y) { return p.half(y); };
    add("kl", enumerated_kl(p.log_policy, p.log_reference));
    add("win", p.mean(half, p.log_policy));
    add("reward", p.mean(reward_of, p.log_policy));
    add("reference_reward", p.mean(reward_of, p.log_reference));
    const double nearest_n = effective_n(p.log_policy, p.quantiles);
    add("effective_n", nearest_n);
    add("kl_to_nearest_bon",
        enumerated_kl(p.log_policy, enumerated_log_bon(p.pi_reference, p.quantiles, nearest_n)));
    if (has_target_n(settings.train.method)) add("kl_to_target", kl_to_target(settings, p));
    std::size_t k = 0;
    for (const auto& [name, one] : settings.rewards) {
      const std::vector<Quantiles>& of_more = p.more[k++];
      add("win." + name,
          p.mean([&](std::size_t y) { return 0.5 * (of_more[y].f_strict + of_more[y].f); }, p.log_policy));
    }
    if (const auto kl = kl_to_optimum(settings, p)) add("kl_to_optimum", *kl);
    for (const double n : settings.eval.bon_n) {
      const std::vector<double> log_bon = enumerated_log_bon(p.pi_reference, p.quantiles, n);
      const std::string key = fmt::format("bon_{:g}.", n);
      add(key + "kl", enumerated_kl(log_bon, p.log_reference));
      add(key + "win", p.mean(half, log_bon));
      add(key + "reward", p.mean(reward_of, log_bon));
    }
  }
  return figures;
}

}  // namespace vbon
