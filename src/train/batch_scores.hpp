// What a scored batch is worth to the method that learns from it: one score a sequence, what KL and entropy cost beside
// it, and the means that a step reports.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "vbon/objective/ppo.hpp"
#include "vbon/train/learner.hpp"

namespace vbon {

struct BatchScores {
  at::Tensor score;                                // [B] float32, in the loop's units, after the rule for cut responses
  CostWeights costs;                               // of KL and entropy, in the same units
  double mean_log_w = 0;                           // E_pi[log w_N], for the monitor KL(pi || pi_bon)
  double log_f = 0, at_floor = 0, at_ceiling = 0;  // means
  double win = 0;                                  // against reference samples, ties half
  bool has_ranks = false;
  std::vector<double> more_reward, more_log_f, more_win;  // means, of rewards beside the main one
};

// `rows`: of the prompts, one per samples_per_prompt sequences; `vbon`: the section as it is at this step; `anchored`:
// null where the method has no anchor.
BatchScores score_batch(const LearnerTools& tools, const VbonConfig& vbon, double kl_coef, const RolloutBatch& batch,
                        std::span<const std::int64_t> rows, const AnchorSamples* anchored);

// Of ppo.baseline prefix, [B, T] float32: what was foretold before each token, at the last cut before it, or at the
// start; zeros behind the response.
at::Tensor prefix_values(const LearnerTools& tools, const VbonConfig& vbon, const RolloutBatch& batch,
                         std::span<const std::int64_t> rows);

void add_scores(Metrics& metrics, const BatchScores& scores, const std::vector<RankedReward>& more);

}  // namespace vbon
