// One update of the regression on the pool.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "train/learner_common.hpp"
#include "vbon/base/rng.hpp"
#include "vbon/model/vocab_head.hpp"
#include "vbon/train/regression.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

// How updates take their samples: groups of one prompt's.
struct Grouping {
  std::int64_t samples = 0;          // of a group
  std::int64_t groups_a_prompt = 0;  // an epoch; samples that fill no group wait for the next
  std::int64_t groups_an_update = 0;

  std::int64_t samples_an_update() const { return samples * groups_an_update; }
};
Grouping grouping_of(const RegressionSection& config, const Pool& pool) {
  const RegressionGroups groups = regression_groups(config, pool.header.num_samples);
  const std::int64_t a_prompt = pool.header.num_samples / groups.samples;
  return {.samples = groups.samples,
          .groups_a_prompt = a_prompt,
          .groups_an_update = std::min(groups.an_update, pool.block.num_prompts() * a_prompt)};
}

// Sample numbers (row * M + m) of update `update`, group after group.
std::vector<std::int64_t> members_of(const Settings& settings, const Grouping& g, const Pool& pool,
                                     std::int64_t update) {
  const std::int64_t per_prompt = pool.header.num_samples, groups = pool.block.num_prompts() * g.groups_a_prompt;
  const std::int64_t per_epoch = groups / g.groups_an_update, epoch = update / per_epoch, part = update % per_epoch;
  const RandomStream stream(static_cast<std::uint64_t>(*settings.run.seed), Purpose::data_order, 0, epoch);
  const std::vector<std::int64_t> order = permutation(stream, groups);
  std::vector<std::int64_t> members;
  for (std::int64_t k = part * g.groups_an_update; k < (part + 1) * g.groups_an_update; ++k) {
    const std::int64_t row = order[idx(k)] / g.groups_a_prompt, group = order[idx(k)] % g.groups_a_prompt;
    const std::vector<std::int64_t> dealt = permutation(stream, per_prompt, static_cast<std::int32_t>(1 + row));
    for (std::int64_t j = 0; j < g.samples; ++j)
      members.push_back(row * per_prompt + dealt[idx(group * g.samples + j)]);
  }
  return members;
}

// Gives the pass, whose sequences are the members, what enters their first trained block, if that is what the pool
// kept.
void give_kept_trunks(BatchPass& pass, const Pool& pool, std::span<const std::int64_t> members, const Policy& policy) {
  const TrunkRows& kept = pool.block.trunk;
  if (!policy.has_trunk() || kept.block != policy.first_trained_block) return;
  const std::vector<std::int64_t> offset = trunk_offsets(pool.block.samples);
  const std::vector<std::int64_t>& prompt = pool.block.prompts.offset;
  const auto rows_of = [&](const std::vector<float>& values, std::int64_t begin, std::int64_t end) {
    return at::from_blob(const_cast<float*>(values.data()) + begin * kept.width, {end - begin, kept.width}, at::kFloat);
  };
  for (std::size_t i = 0; i < members.size(); ++i) {
    const std::int64_t member = members[i];
    const std::size_t row = idx(member / pool.header.num_samples);
    const at::Tensor rows = at::cat({rows_of(kept.prompt, prompt[row], prompt[row + 1]),
                                     rows_of(kept.samples, offset[idx(member)], offset[idx(member + 1)])});
    pass.give_trunk(static_cast<std::int64_t>(i), rows.to(policy.model.device(), policy.model.dtype()));
  }
}

// Takes the mean of those at the same place (which segment of its sample) off; a residual alone at its place becomes 0.
void centre(std::span<double> values, std::span<const std::size_t> place) {
  std::vector<double> sum, count;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (place[i] >= sum.size()) sum.resize(place[i] + 1), count.resize(place[i] + 1);
    sum[place[i]] += values[i];
    count[place[i]] += 1;
  }
  for (std::size_t i = 0; i < values.size(); ++i) values[i] -= sum[place[i]] / count[place[i]];
}

class RegressionStep {
 public:
  RegressionStep(LearnerState& state, const LearnerTools& tools, const Pool& pool, const RegressionTargets& targets,
                 std::int64_t update)
      : state_(state), tools_(tools), settings_(tools.settings), config_(tools.settings.regression), pool_(pool),
        targets_(targets), grouping_(grouping_of(config_, pool)),
        batch_(static_cast<double>(grouping_.samples_an_update())) {
    const std::vector<std::int64_t> members = members_of(settings_, grouping_, pool, update);
    // A prompt's samples stay on one rank and in one micro-batch, where their mean is known.
    const Share groups = share_of(grouping_.groups_an_update, tools.learners.rank(), tools.learners.size());
    for (std::int64_t i = groups.begin * grouping_.samples; i < groups.end * grouping_.samples; ++i) {
      const std::int64_t member = members[idx(i)], row = member / pool.header.num_samples,
                         sample = member % pool.header.num_samples;
      mine_.push_back(member);
      sequences_.push_back({pool.block.prompts.tokens_of(row), pool.block.samples.tokens_of(row, sample)});
      prompt_ids_.push_back(pool.block.prompts.id[idx(row)]);
    }
  }

  Metrics run(std::int64_t update, std::int64_t total_updates) {
    BatchPass pass(*state_.reference, state_.policy, sequences_,
                   {settings_.sampling.temperature, settings_.train.micro_batch, 0});
    give_kept_trunks(pass, pool_, mine_, state_.policy);
    const std::int64_t count = pass.size();
    const std::int64_t micro_size =
        std::max<std::int64_t>(settings_.train.micro_batch / grouping_.samples, 1) * grouping_.samples;
    for (std::int64_t first = 0; first < count; first += micro_size)
      backward(pass, first, std::min(micro_size, count - first));
    OptimizerConfig optimizer = settings_.optimizer;
    optimizer.learning_rate = config_.learning_rate.value_or(optimizer.learning_rate);
    optimizer.warmup = config_.warmup.value_or(optimizer.warmup);
    const double rate = learning_rate(optimizer, update, total_updates);
    const double norm = reduce_and_step(state_, tools_, rate, prompt_ids_, fmt::format("regression update {}", update));
    sum_over_learners(tools_, sums_, "loss sums");
    const double segments = sums_[kSegments];
    return {{"loss", sums_[kSquares] / batch_},
            {"residual", sums_[kSizes] / segments},
            {"residual_clipped", sums_[kClipped] / segments},
            {"log_ratio", sums_[kLogRatio] / batch_},
            {"grad_norm", norm},
            {"learning_rate", rate},
            {"length", sums_[kTokens] / batch_}};
  }

 private:
  enum Sum : std::size_t { kSquares, kSizes, kClipped, kLogRatio, kTokens, kSegments, kNumSums };

  void backward(BatchPass& pass, std::int64_t first, std::int64_t count) {
    std::vector<std::int64_t> chosen(idx(count));
    std::iota(chosen.begin(), chosen.end(), first);
    const BatchPass::Micro micro = pass.micro(chosen);
    const TokenStatistics stats = token_statistics(pass.policy_hidden(micro), state_.policy.model.head,
                                                   micro.packed.targets, settings_.sampling.temperature);
    const at::Tensor logp_on_host = stats.logp.detach().cpu();
    const std::span logp(logp_on_host.const_data_ptr<float>(), idx(logp_on_host.numel()));
    // The gradient with respect to a token's log-probability is 2 / batch times what of its segment's residual acts.
    std::vector<float> weight(logp.size());
    for (std::int64_t k = 0; k < count; k += grouping_.samples) weigh(micro.packed, first, k, logp, weight);
    (stats.logp * at::tensor(weight).to(stats.logp.device())).sum().backward();
  }

  // Of the group that begins at the micro-batch's sequence `begin`.
  void weigh(const PackedSequences& packed, std::int64_t first, std::int64_t begin, std::span<const float> logp,
             std::span<float> weight) {
    std::vector<double> residual;
    std::vector<std::size_t> place;
    std::vector<std::span<float>> tokens;
    for (std::int64_t k = begin; k < begin + grouping_.samples; ++k) {
      const std::size_t start = idx(packed.offset[idx(k)]);
      std::size_t from = 0, at = 0;
      for (const TargetSegment& segment : targets_.of(mine_[idx(first + k)])) {
        const std::size_t size = idx(segment.end) - from;
        const auto drawn = logp.subspan(start + from, size);
        const double log_ratio = std::accumulate(drawn.begin(), drawn.end(), 0.0) - segment.logp_reference;
        residual.push_back(log_ratio - segment.log_ratio);
        place.push_back(at++);
        tokens.push_back(weight.subspan(start + from, size));
        sums_[kLogRatio] += log_ratio;
        from += size;
      }
      sums_[kTokens] += static_cast<double>(from);
    }
    // Clipping leaves the gradient of a loss that grows linearly beyond the limit: of residuals less their mean, so the
    // mean of what acts is taken off once more.
    const double limit = config_.clip_residual;
    if (config_.center) centre(residual, place);
    for (double& r : residual) {
      sums_[kSquares] += r * r;
      sums_[kSizes] += std::abs(r);
      sums_[kSegments] += 1;
      if (limit == 0 || std::abs(r) <= limit) continue;
      sums_[kClipped] += 1;
      r = std::clamp(r, -limit, limit);
    }
    if (config_.center) centre(residual, place);
    for (std::size_t i = 0; i < residual.size(); ++i)
      std::fill(tokens[i].begin(), tokens[i].end(), static_cast<float>(2.0 * residual[i] / batch_));
  }

  LearnerState& state_;
  const LearnerTools& tools_;
  const Settings& settings_;
  const RegressionSection& config_;
  const Pool& pool_;
  const RegressionTargets& targets_;
  Grouping grouping_;
  double batch_;                     // samples of the update, over all learners
  std::vector<std::int64_t> mine_;   // this rank's, group after group
  std::vector<Sequence> sequences_;  // of mine_
  std::vector<std::int64_t> prompt_ids_;
  std::array<double, kNumSums> sums_{};
};

}  // namespace

std::int64_t regression_samples(const RegressionSection& config, const Pool& pool) {
  return grouping_of(config, pool).samples_an_update();
}

Metrics regression_step(LearnerState& state, const LearnerTools& tools, const Pool& pool,
                        const RegressionTargets& targets, std::int64_t update, std::int64_t total_updates) {
  const Phases::Scope scope(tools.phases, Phase::update, tools.learners.group().waiter());
  return RegressionStep(state, tools, pool, targets, update).run(update, total_updates);
}

}  // namespace vbon
