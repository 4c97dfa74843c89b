#include "vbon/train/amortise.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/sha256.hpp"
#include "vbon/base/stop.hpp"
#include "vbon/comm/agree.hpp"
#include "vbon/model/hf_weights.hpp"
#include "vbon/store/folder_commit.hpp"

namespace vbon {
namespace {

using Json = nlohmann::json;
std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

constexpr const char* kRecord = "calibration.json";
const std::vector<std::string> kFiles = {"config.json", "model.safetensors", kRecord};

// What F is of, beside the reference.
std::string made_of(const Settings& s, const Identities& identities) {
  return fmt::format("reward {} {} {} temperature {} max_new_tokens {}", identities.reward, enum_name(s.reward.output),
                     s.reward.round, s.sampling.temperature, s.sampling.max_new_tokens);
}

std::string key_of(const AmortisedSection& c, const Settings& s, const Pool& pool, const std::string& evaluated) {
  return sha256_hex(fmt::format("{} {} {} {} {} {} {} {} {} {} {}", pool.content_sha256, pool.header.num_samples,
                                evaluated, c.components, c.updates, c.batch, c.learning_rate, c.weight_decay, c.heldout,
                                *s.run.seed, s.vbon.ties == Ties::uniform));
}

Json json_of(const Calibration& c) { return {{"nll", c.nll}, {"ks", c.ks}, {"pit", c.pit}}; }

CdfData data_of(const CausalLm& reference, const UsedPool& pool, const Prompts& prompts, std::vector<float>& rewards) {
  for (const std::int64_t row : pool.row) {
    const std::span<const float> of_row = pool.pool.rewards_of(row);
    rewards.insert(rewards.end(), of_row.begin(), of_row.end());
  }
  return {.num_prompts = prompts.rows.num_prompts(),
          .embeddings = prompt_embeddings(reference, prompts.rows),
          .rewards = rewards};
}

}  // namespace

Calibration calibration_of(const CdfHead& head, const CdfData& data) {
  Calibration result{.nll = mean_nll(head, data)};
  for (std::int64_t p = 0; p < data.num_prompts; ++p) {
    const LogisticMixture mixture = head.mixture(data.embedding(p));
    std::vector<double> pit;
    for (const float reward : data.rewards_of(p)) {
      const Quantiles q = log_f_of(mixture, reward, head.round).exact;
      pit.push_back(0.5 * (q.f_strict + q.f));
      const auto bin = static_cast<std::size_t>(pit.back() * static_cast<double>(Calibration::kBins));
      ++result.pit[std::min(Calibration::kBins - 1, bin)];
    }
    std::sort(pit.begin(), pit.end());
    double worst = 0;
    const auto count = static_cast<double>(pit.size());
    for (std::size_t i = 0; i < pit.size(); ++i)
      worst = std::max({worst, pit[i] - static_cast<double>(i) / count, static_cast<double>(i + 1) / count - pit[i]});
    result.ks += worst / static_cast<double>(data.num_prompts);
  }
  return result;
}

std::vector<ShrinkageError> shrinkage_errors(const CdfHead& head, const CdfData& data) {
  constexpr std::array<std::int64_t, 5> kSamples = {2, 4, 8, 16, 32};
  constexpr std::array<double, 8> kWeights = {0, 1, 2, 4, 8, 16, 32, 1e6};
  // The middle of F_strict and F among `sorted`, as counts.
  const auto middle = [](std::span<const float> sorted, float reward) {
    const TableCounts counts = count_in_table(sorted, reward);
    return 0.5 * static_cast<double>(counts.lt + counts.le);
  };
  std::vector<ShrinkageError> errors;
  for (const std::int64_t m : kSamples) {
    if (2 * m > data.num_samples()) continue;
    std::array<double, kWeights.size()> squares{};
    double count = 0;
    for (std::int64_t p = 0; p < data.num_prompts; ++p) {
      const LogisticMixture mixture = head.mixture(data.embedding(p));
      const auto all = data.rewards_of(p);
      std::vector<float> few(all.begin(), all.begin() + m), rest(all.begin() + m, all.end());
      std::sort(few.begin(), few.end());
      std::sort(rest.begin(), rest.end());
      for (const float reward : rest) {
        const double truth = middle(rest, reward) / static_cast<double>(rest.size());
        const Quantiles q = log_f_of(mixture, reward, head.round).exact;
        const double model = 0.5 * (q.f_strict + q.f), below = middle(few, reward);
        for (std::size_t w = 0; w < kWeights.size(); ++w) {
          const double found = kWeights[w] == 0
                                   ? (below + 0.5) / static_cast<double>(m + 1)
                                   : (below + kWeights[w] * model) / (static_cast<double>(m) + kWeights[w]);
          squares[w] += (found - truth) * (found - truth);
        }
        ++count;
      }
    }
    for (std::size_t w = 0; w < kWeights.size(); ++w) errors.push_back({m, kWeights[w], std::sqrt(squares[w] / count)});
  }
  return errors;
}

std::vector<double> prompt_embeddings(const CausalLm& reference, const PromptRows& prompts) {
  const at::NoGradGuard no_grad;
  constexpr std::int64_t kBatch = 16;
  std::vector<double> all;
  for (std::int64_t begin = 0; begin < prompts.num_prompts(); begin += kBatch) {
    const std::int64_t rows = std::min(kBatch, prompts.num_prompts() - begin);
    std::int64_t longest = 0;
    for (std::int64_t i = 0; i < rows; ++i) longest = std::max(longest, std::ssize(prompts.tokens_of(begin + i)));
    const at::Tensor tokens = at::zeros({rows, longest}, at::kLong);
    for (std::int64_t i = 0; i < rows; ++i) {
      const auto of_row = prompts.tokens_of(begin + i);
      std::copy(of_row.begin(), of_row.end(), tokens.mutable_data_ptr<std::int64_t>() + i * longest);
    }
    const at::Tensor hidden = forward_hidden(reference, tokens.to(reference.device()));
    for (std::int64_t i = 0; i < rows; ++i) {
      const at::Tensor last =
          hidden.select(0, i).select(0, std::ssize(prompts.tokens_of(begin + i)) - 1).to(at::kCPU, at::kDouble);
      const at::Tensor row = last.contiguous();
      all.insert(all.end(), row.const_data_ptr<double>(), row.const_data_ptr<double>() + row.numel());
    }
  }
  return all;
}

AmortiseResult run_amortise(comm::Communicator& world, const Settings& settings, const RunText& text) {
  const stop::AtOnce signals_end_it;
  RankContext context = make_uniform_context(world, settings.cluster);
  const Identities identities = identify(context, settings);
  AmortiseResult result;
  comm::together(*context.everyone, "the amortised F", [&] {
    if (context.world.rank() != 0) return;
    const Tokenizer tokenizer = Tokenizer::load(settings.model.reference);
    const LmSpec spec = read_lm_spec(settings.model.reference);
    std::string forced;
    const Prompts prompts = load_prompts(settings.prompts.train, settings, tokenizer, spec);
    const UsedPool pool =
        load_pool(settings.pool.path, settings, prompts, identities, text.force, forced, {.use = settings.pool.use});
    std::optional<Prompts> others;
    std::optional<UsedPool> other_pool;
    if (!settings.pool.eval_path.empty() && fs::exists(settings.pool.eval_path)) {
      others = load_prompts(settings.prompts.eval, settings, tokenizer, spec);
      other_pool = load_pool(settings.pool.eval_path, settings, *others, identities, text.force, forced);
    }
    const std::string key =
        key_of(settings.amortised, settings, pool.pool, other_pool ? other_pool->pool.content_sha256 : "");
    result.skipped =
        already_made(settings.amortised.path,
                     {kRecord, "vbon amortise", "another pool or another configuration", "amortised.path"}, key);
    if (result.skipped) return;
    const CausalLm reference =
        load_causal_lm(settings.model.reference, context.device, scalar_type(settings.model.dtype));
    std::vector<float> rewards, other_rewards;
    const CdfData data = data_of(reference, pool, prompts, rewards);
    result.fit =
        fit_cdf_head(data, settings.amortised, settings.reward.round, static_cast<std::uint64_t>(*settings.run.seed));
    CdfHead& head = result.fit.head;
    head.reference_sha256 = identities.reference;
    head.made = made_of(settings, identities);
    Json record = {{"format", "vbon.calibration"},
                   {"key", key},
                   {"updates", result.fit.updates},
                   {"nll_stopping", {{"marginal", result.fit.nll_marginal}, {"head", result.fit.nll_prompt}}},
                   {"config", text.resolved_yaml}};
    if (others) {
      const CdfData unseen = data_of(reference, *other_pool, *others, other_rewards);
      CdfHead marginal = head;
      std::fill(marginal.weight.begin(), marginal.weight.end(), 0.0);
      result.heldout_prompts = unseen.num_prompts;
      result.head = calibration_of(head, unseen);
      result.marginal = calibration_of(marginal, unseen);
      result.shrinkage = shrinkage_errors(head, unseen);
      record["heldout"] = {{"prompts", unseen.num_prompts},
                           {"samples", unseen.num_samples()},
                           {"head", json_of(result.head)},
                           {"marginal", json_of(result.marginal)}};
      for (const ShrinkageError& e : result.shrinkage)
        record["heldout"]["shrinkage"].push_back({{"samples", e.samples}, {"weight", e.weight}, {"rmse", e.rmse}});
    }
    write_folder_atomically(settings.amortised.path, kFiles, [&](const fs::path& folder) {
      save_cdf_head(head, folder);
      write_file_atomically(folder / kRecord, record.dump(1) + "\n");
    });
  });
  return result;
}

std::vector<LogisticMixture> amortised_mixtures(RankContext& context, const Settings& settings,
                                                const Identities& identities, const CausalLm* reference,
                                                const PromptRows& prompts, int root, double& round) {
  std::vector<double> flat;  // of each prompt: log weights, means, scales
  std::int64_t components = 0;
  comm::together(*context.everyone, "the amortised F", [&] {
    const CdfHead head = load_cdf_head(settings.amortised.path);
    const std::string made = made_of(settings, identities);
    require(head.reference_sha256 == identities.reference,
            "'{}' is of another reference; make it again with `vbon amortise`", settings.amortised.path);
    require(head.made == made, "'{}' is F of other rewards ({}; needed: {}); make it again with `vbon amortise`",
            settings.amortised.path, head.made, made);
    round = head.round;
    components = head.components;
    flat.assign(idx(prompts.num_prompts() * 3 * components), 0.0);
    if (context.world.rank() != root) return;
    check(reference != nullptr, "amortised_mixtures: the root has the reference");
    const std::vector<double> embeddings = prompt_embeddings(*reference, prompts);
    double* into = flat.data();
    for (std::int64_t p = 0; p < prompts.num_prompts(); ++p) {
      const LogisticMixture m = head.mixture(std::span(embeddings).subspan(idx(p * head.width()), idx(head.width())));
      for (const auto* part : {&m.log_weight, &m.mean, &m.scale}) into = std::copy(part->begin(), part->end(), into);
    }
  });
  context.everyone->host().broadcast(std::span<double>(flat), root, "amortised F");
  std::vector<LogisticMixture> mixtures;
  for (auto at = flat.begin(); at != flat.end(); at += 3 * components)
    mixtures.push_back(
        {{at, at + components}, {at + components, at + 2 * components}, {at + 2 * components, at + 3 * components}});
  return mixtures;
}

}  // namespace vbon
