// One online step: measure, advantages over the whole batch, epochs of clipped updates.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include "train/batch_scores.hpp"
#include "train/learner_common.hpp"
#include "train/method_objective.hpp"
#include "train/step_imitation.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/rng.hpp"
#include "vbon/model/vocab_head.hpp"
#include "vbon/objective/ppo.hpp"
#include "vbon/train/carried_trunk.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

// Policy loss, value loss, clipped, value clipped, ratio, squared log ratio, direct, imitated.
constexpr std::size_t kSums = 8;

// Of a whole minibatch, over all learners.
struct Minibatch {
  double responses = 0, tokens = 0;
};

class OnlineStep {
 public:
  OnlineStep(LearnerState& state, const LearnerTools& tools, RolloutBatch& batch, std::span<const std::int64_t> rows,
             std::int64_t step, const RolloutBatch* anchored)
      : state_(state), tools_(tools), settings_(tools.settings),
        vbon_(at_step(tools.settings.vbon, step - tools.settings.train.warm_start)), batch_(batch), rows_(rows),
        step_(step), pass_(state.anchor ? state.anchor->policy.model : *state.reference, state.policy, sequences(),
                           {settings_.sampling.temperature, settings_.train.micro_batch,
                            settings_.train.reference_cache_mib, !state.parallel->is_fixed()}),
        lengths_(at::tensor(batch.length, at::kInt)), mask_(response_mask(lengths_, batch.max_new_tokens)),
        behavior_(at::from_blob(batch.logp_behavior.data(), {batch.num_sequences(), batch.max_new_tokens}, at::kFloat)
                      .masked_fill(~mask_, 0.0)) {
    if (anchored != nullptr) anchored_.emplace(tools.prompts, rows, *anchored);
    check(anchored_.has_value() == (state.anchor != nullptr), "an anchor and what it drew");
  }

  Metrics run(std::int64_t first_update, std::int64_t total_updates) {
    {
      const Phases::Scope scope(tools_.phases, Phase::prepare, learners().group().waiter());
      measure_all();
      scores_ = score_batch(tools_, vbon_, state_.kl_coef, batch_, rows_, anchored_ ? &*anchored_ : nullptr);
      advantages_of_batch();
      record();
      imitate_what();
    }
    const Phases::Scope scope(tools_.phases, Phase::update, learners().group().waiter());
    for (std::int64_t epoch = 0; epoch < settings_.ppo.epochs; ++epoch)
      for (std::int64_t part = 0; part < settings_.train.minibatches; ++part)
        update(epoch, part, first_update + epoch * settings_.train.minibatches + part, total_updates);
    return metrics();
  }

 private:
  comm::Collectives& learners() const { return state_.parallel->learners(); }

  std::vector<Sequence> sequences() const {
    std::vector<Sequence> result;
    for (std::int64_t i = 0; i < batch_.num_sequences(); ++i)
      result.push_back({tools_.prompts.tokens_of(rows_[idx(i / settings_.train.samples_per_prompt)]),
                        std::span(batch_.tokens).subspan(idx(i * batch_.max_new_tokens), idx(batch_.length[idx(i)]))});
    return result;
  }
  void measure_all() {
    const std::array all = {Share{0, pass_.size()}};  // updates meet other sequences than this learner measures
    give_carried_trunk(pass_, batch_, all, state_.policy);
    measured_ = measured_by_all(pass_, state_.critic);
    if (state_.anchor) measure_against_reference();
    batch_.trunk = {};
  }
  void measure_against_reference() {
    // The objective is against the anchor; the record and the metrics are against the reference.
    BatchPass against_reference(*state_.reference, state_.policy, sequences(), pass_.options());
    give_carried_trunk(against_reference, batch_, state_.parallel->shares(pass_.size()), state_.policy);
    const Measured to_reference = measured_by_all(against_reference, Critic{});
    to_reference_ = {.logp = to_reference.logp_reference, .kl = to_reference.kl};
  }
  const at::Tensor& kl_to_reference() const { return state_.anchor ? to_reference_.kl : measured_.kl; }
  const at::Tensor& logp_of_reference() const { return state_.anchor ? to_reference_.logp : measured_.logp_reference; }

  // Each learner measures its share of the sequences; everybody gets all.
  Measured measured_by_all(BatchPass& pass, const Critic& critic) const {
    const std::vector<Share> shares = state_.parallel->shares(pass.size());
    const Share mine{shares.front().begin, shares.back().end};
    Measured measured = measure(pass, state_.policy, critic, shares, batch_.max_new_tokens);
    for (at::Tensor* t :
         {&measured.logp, &measured.logp_reference, &measured.kl, &measured.entropy, &measured.values}) {
      if (!t->defined() || learners().size() == 1) continue;
      const std::int64_t width = batch_.max_new_tokens;
      const float* data = t->const_data_ptr<float>();
      const auto gathered =
          learners().all_gather_v(std::span(data + mine.begin * width, idx(mine.size() * width)), "measured");
      std::copy(gathered.values.begin(), gathered.values.end(), t->mutable_data_ptr<float>());
    }
    return measured;
  }

  void advantages_of_batch() {
    const PpoConfig& ppo = settings_.ppo;
    const at::Tensor cost = ppo.kl_form == KlForm::exact
                                ? exact_cost(measured_.kl, measured_.entropy, mask_, scores_.costs)
                                : sampled_cost(measured_.logp, measured_.logp_reference, mask_, scores_.costs);
    if (ppo.baseline == Baseline::prefix) measured_.values = prefix_values(tools_, vbon_, batch_, rows_);
    if (measured_.values.defined()) {
      at::Tensor rewards = token_rewards(scores_.score, cost, mask_, ppo.kl_form);
      if (ppo.whiten_rewards) rewards = whitened(rewards, mask_, masked_moments(rewards, mask_), /*shift_mean=*/false);
      advantages_ = gae(rewards, measured_.values, mask_, ppo.gamma, ppo.lam);
    } else {
      advantages_ = sequence_advantages(scores_.score, cost, mask_, ppo.kl_form, ppo.baseline,
                                        settings_.train.samples_per_prompt);
    }
    const Moments moments = masked_moments(advantages_.advantages, mask_);
    advantage_sd_ = std::sqrt(moments.variance());
    if (ppo.whiten_advantages) {
      whitening_ = whitening(moments, /*shift_mean=*/true);
      advantages_.advantages = whitened(advantages_.advantages, mask_, moments, /*shift_mean=*/true);
    }
    direct_ = direct_weights(scores_.costs, ppo.kl_form, whitening_);
  }

  void imitate_what() {
    if (gradient_share(settings_) == 1) return;
    check(anchored_ || tools_.imitated, "a mixed objective has something to imitate");
    imitation_.emplace(state_, settings_,
                       anchored_ ? anchored_->best(settings_.train.method == Method::jbond ? 2 : target_n(vbon_))
                                 : tools_.imitated(rows_, step_));
  }

  // What an imitated response's -log pi weighs beside the policy loss of a minibatch: scaled and whitened with it, and
  // divided by the same tokens.
  double imitation_unit(const Minibatch& minibatch) const {
    const double a_prompt = static_cast<double>(settings_.train.minibatches) / static_cast<double>(std::ssize(rows_));
    return (1 - gradient_share(settings_)) * method_scale(settings_, vbon_) * whitening_.factor * minibatch.responses /
           minibatch.tokens * a_prompt;
  }

  // The learned columns of the batch, NaN behind each response.
  void record() {
    const auto column = [&](const at::Tensor& values) {
      const at::Tensor filled = values.masked_fill(~mask_, std::numeric_limits<double>::quiet_NaN()).contiguous();
      const float* data = filled.const_data_ptr<float>();
      return std::vector<float>(data, data + filled.numel());
    };
    batch_.logp_reference = column(logp_of_reference());
    batch_.kl = column(kl_to_reference());
    batch_.entropy = column(measured_.entropy);
    if (measured_.values.defined()) batch_.value = column(measured_.values);
    batch_.advantage = column(advantages_.advantages);
    batch_.returns = column(advantages_.returns);
  }

  void update(std::int64_t epoch, std::int64_t part, std::int64_t update_number, std::int64_t total_updates) {
    const RandomStream stream(static_cast<std::uint64_t>(*settings_.run.seed), Purpose::minibatch, 0, step_);
    const std::vector<std::int64_t> order = permutation(stream, pass_.size(), static_cast<std::int32_t>(epoch));
    const Share minibatch = share_of(pass_.size(), part, settings_.train.minibatches);
    const std::span members = std::span(order).subspan(idx(minibatch.begin), idx(minibatch.end - minibatch.begin));
    Minibatch whole{.responses = static_cast<double>(members.size())};
    for (const std::int64_t i : members) whole.tokens += batch_.length[idx(i)];
    const std::vector<std::int64_t> imitated =
        imitation_ ? imitation_->of_prompts(share_of(std::ssize(rows_), part, settings_.train.minibatches))
                   : std::vector<std::int64_t>{};
    const std::vector<Share> mine = state_.parallel->shares(std::ssize(members)),
                             mine_imitated = state_.parallel->shares(std::ssize(imitated));
    std::vector<double> sums(kSums * mine.size());  // a row a part
    double max_log_ratio = 0;
    for (std::size_t k = 0; k < mine.size(); ++k) {
      const auto groups = pass_.split(members.subspan(idx(mine[k].begin), idx(mine[k].size())));
      const auto of_imitation = imitation_ ? imitation_->split(std::span(imitated).subspan(
                                                 idx(mine_imitated[k].begin), idx(mine_imitated[k].size())))
                                           : std::vector<std::vector<std::int64_t>>{};
      const std::span<double> row = std::span(sums).subspan(k * kSums, kSums);
      std::size_t left = groups.size() + of_imitation.size();
      const auto begin_pass = [&] {
        if (--left == 0 && k + 1 == mine.size()) state_.parallel->last_backward();
      };
      for (const auto& group : groups) {
        begin_pass();
        backward(group, whole.tokens, row, max_log_ratio);
      }
      for (const auto& group : of_imitation) {
        begin_pass();
        row[7] += imitation_->backward(group, imitation_unit(whole));
      }
      state_.parallel->end_part();
    }
    std::vector<std::int64_t> prompt_ids;
    for (const std::int64_t i : members) prompt_ids.push_back(batch_.prompt_id[idx(i)]);
    rate_ = learning_rate(settings_.optimizer, update_number, total_updates);
    grad_norm_ += reduce_and_step(state_, rate_, prompt_ids, fmt::format("step {}, epoch {}", step_, epoch));
    if (epoch == 0 && part == 0) {
      std::array<double, 1> worst = {max_log_ratio};
      learners().host().all_reduce(std::span<double>(worst), comm::Reduction::max, "ratio error");
      ratio_error_ = worst[0];
    }
    const std::vector<double> all = state_.parallel->sum_of_parts(sums, kSums, "loss sums");
    for (std::size_t k = 0; k < kSums; ++k) sums_[k] += all[k];
    tokens_ += whole.tokens;
    ++updates_;
  }

  void backward(std::span<const std::int64_t> group, double tokens, std::span<double> sums, double& max_log_ratio) {
    const PpoConfig& ppo = settings_.ppo;
    const BatchPass::Micro micro = pass_.micro(group);
    const at::Tensor hidden = pass_.policy_hidden(micro);
    const bool direct = direct_.kl != 0 || direct_.entropy != 0;
    const TokenStatistics stats =
        token_statistics(hidden, state_.policy.model.head, micro.packed.targets, settings_.sampling.temperature,
                         direct_.kl != 0 ? pass_.reference_logits(micro) : at::Tensor());
    const auto flat = [&](const at::Tensor& table) {  // [B, T] -> the micro-batch's response tokens [1, R]
      std::vector<at::Tensor> parts;
      for (const std::int64_t i : group) parts.push_back(table.select(0, i).narrow(0, 0, batch_.length[idx(i)]));
      return at::cat(parts, 0).to(hidden.device()).unsqueeze(0);
    };
    const at::Tensor all =
        at::ones({1, micro.packed.offset.back()}, at::TensorOptions(at::kBool).device(hidden.device()));
    const PolicyLoss policy =
        policy_loss(stats.logp.unsqueeze(0), flat(behavior_), flat(advantages_.advantages), all, ppo.clip);
    at::Tensor loss = policy.loss_sum / tokens;
    if (direct) {
      at::Tensor term = stats.entropy.sum() * direct_.entropy;
      if (direct_.kl != 0) term = term + stats.kl.sum() * direct_.kl;
      sums[6] += term.item<double>();
      loss = loss + term / tokens;
    }
    if (gradient_share(settings_) != 1) loss = loss * gradient_share(settings_);
    if (state_.critic.exists()) {
      const at::Tensor values = values_of(state_.critic, hidden, micro.packed, micro.trunk).unsqueeze(0);
      const ValueLoss value =
          value_loss(values, flat(measured_.values), flat(advantages_.returns), all, ppo.value_clip);
      loss = loss + value.loss_sum * (ppo.value_coef / tokens);
      sums[1] += value.loss_sum.item<double>();
      sums[3] += value.clipped;
    }
    loss.backward();
    sums[0] += policy.loss_sum.item<double>();
    sums[2] += policy.clipped;
    sums[4] += policy.ratio_sum;
    sums[5] += policy.squared_log_ratio;
    max_log_ratio = std::max(max_log_ratio, policy.max_abs_log_ratio);
  }

  Metrics metrics() const {
    const auto count = static_cast<double>(batch_.num_sequences());
    const auto mean = [&](const auto& values) {
      double sum = 0;
      for (const auto v : values) sum += static_cast<double>(v);
      return values.empty() ? std::numeric_limits<double>::quiet_NaN() : sum / static_cast<double>(values.size());
    };
    const auto per_response = [&](const at::Tensor& table) { return masked_sum(table, mask_).item<double>() / count; };
    const double response_tokens = mask_.sum().item<double>();
    const double kl = per_response(kl_to_reference()), kl_of_objective = per_response(measured_.kl);
    const Moments rewards = masked_moments(at::tensor(batch_.reward), at::ones({batch_.num_sequences()}, at::kBool));
    Metrics m = {
        {"reward", rewards.mean()},
        {"reward_sd", std::sqrt(rewards.variance())},
        {"kl", kl},
        {"kl_sampled", per_response(measured_.logp - logp_of_reference())},
        {"entropy", masked_sum(measured_.entropy, mask_).item<double>() / response_tokens},
        {"length", mean(batch_.length)},
        {"finished", mean(batch_.finished)},
        {"advantage_sd", advantage_sd_},
        {"policy_loss", sums_[0] / tokens_},
        {"clip_fraction", sums_[2] / tokens_},
        {"ratio_mean", sums_[4] / tokens_},
        {"approx_kl", 0.5 * sums_[5] / tokens_},
        {"ratio_error", ratio_error_},
        {"grad_norm", grad_norm_ / static_cast<double>(updates_)},
        {"learning_rate", rate_},
    };
    add_scores(m, scores_, tools_.more);
    // Of several rewards the target's normaliser is not known: no distance to it.
    if (scores_.has_ranks && has_target_n(settings_.train.method) && tools_.more.empty())
      m[vbon_.target == Target::bon ? "kl_to_bon" : "kl_to_target"] = kl_to_bon(kl, scores_.mean_log_w);
    if (vbon_.n_steps > 0) m["n"] = target_n(vbon_);
    if (state_.anchor) m["kl_to_anchor"] = kl_of_objective;
    m["objective"] = masked_moments(scores_.score, at::ones({batch_.num_sequences()}, at::kBool)).mean() -
                     scores_.costs.kl * kl_of_objective - scores_.costs.entropy * per_response(measured_.entropy);
    if (settings_.train.method == Method::ppo) m["kl_coef"] = scores_.costs.kl;
    if (direct_.kl != 0 || direct_.entropy != 0) m["direct_loss"] = sums_[6] / tokens_;
    if (imitation_)
      m["imitated_nll"] = sums_[7] / (static_cast<double>(rows_.size()) * static_cast<double>(settings_.ppo.epochs));
    if (state_.critic.exists()) {
      m["value_loss"] = sums_[1] / tokens_;
      m["value_clip_fraction"] = sums_[3] / tokens_;
    }
    if (measured_.values.defined())
      m["explained_variance"] = explained_variance(masked_moments(advantages_.returns - measured_.values, mask_),
                                                   masked_moments(advantages_.returns, mask_));
    return m;
  }

  LearnerState& state_;
  const LearnerTools& tools_;
  const Settings& settings_;
  VbonConfig vbon_;  // of this step
  RolloutBatch& batch_;
  std::span<const std::int64_t> rows_;
  std::int64_t step_;
  BatchPass pass_;
  at::Tensor lengths_, mask_;  // [B], bool [B, T]
  at::Tensor behavior_;        // [B, T] log-probabilities that the tokens were drawn with
  std::optional<AnchorSamples> anchored_;
  Measured measured_;  // against the anchor where there is one
  struct {
    at::Tensor logp, kl;
  } to_reference_;  // where there is an anchor
  BatchScores scores_;
  Advantages advantages_;
  CostWeights direct_;
  Whitening whitening_;  // of the advantages
  std::optional<StepImitation> imitation_;
  double advantage_sd_ = 0, rate_ = 0, grad_norm_ = 0, ratio_error_ = 0, tokens_ = 0;
  std::array<double, kSums> sums_{};
  std::int64_t updates_ = 0;
};

}  // namespace

Metrics online_step(LearnerState& state, const LearnerTools& tools, RolloutBatch& batch,
                    std::span<const std::int64_t> rows, std::int64_t step, std::int64_t first_update,
                    std::int64_t total_updates, const RolloutBatch* anchored) {
  Metrics metrics = OnlineStep(state, tools, batch, rows, step, anchored).run(first_update, total_updates);
  if (tools.settings.train.method == Method::ppo && tools.settings.ppo.adaptive_kl)
    state.kl_coef = adapted_kl_coef(state.kl_coef, metrics.at("kl"), tools.settings.ppo.kl_target,
                                    tools.settings.ppo.kl_horizon, batch.num_sequences());
  return metrics;
}

}  // namespace vbon
