// What a learner rank holds, and its step on a collected batch (vBoN, KL-PPO …); pool_step.hpp has the other kind.
// Every learner calls them in the same order; gradients are summed over learners, and everything that is
// averaged is averaged over the whole batch.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "vbon/comm/collectives.hpp"
#include "vbon/objective/log_f.hpp"
#include "vbon/objective/vbon.hpp"
#include "vbon/store/pool.hpp"
#include "vbon/store/rollouts.hpp"
#include "vbon/train/batch_pass.hpp"
#include "vbon/train/critic.hpp"
#include "vbon/train/data_parallel.hpp"
#include "vbon/train/imitation.hpp"
#include "vbon/train/phases.hpp"
#include "vbon/train/prefixes.hpp"
#include "vbon/train/reward_ranks.hpp"
#include "vbon/train/settings.hpp"

namespace vbon {

using Metrics = std::map<std::string, double>;

struct LearnerState {
  const CausalLm* reference = nullptr;
  Policy policy;
  Critic critic;
  std::unique_ptr<PolicyCopy> anchor;      // of methods that have one; follows the policy
  FlatParameters parameters;               // the policy's, then the critic's
  std::int64_t policy_size = 0;            // floats of the policy's: what is published to rollout ranks
  std::unique_ptr<DataParallel> parallel;  // gradients over learners, and the optimiser
  double kl_coef = 0;                      // of method ppo; may adapt
};

// `reference` and `learners` must outlive the state. The state must not move: tensors are views, but names are not
// kept.
std::unique_ptr<LearnerState> make_learner(const CausalLm& reference, const Settings& settings,
                                           comm::Collectives& learners);
// anchor <- (1-rate) anchor + rate policy.
void move_anchor(LearnerState& state, double rate);
// What a step needs beside the state.
struct LearnerTools {
  const Settings& settings;
  Phases& phases;
  const PromptRows& prompts;                    // of prompts.train, tokenised
  const PrefixValues* prefix_values = nullptr;  // ppo.baseline prefix: of the scaled objective's reward
  RewardRanks ranks;               // of prompts.train; method ppo has them for its metrics, where there is a pool
  std::vector<RankedReward> more;  // rewards beside the main one, in the order of the batch's columns
  // What a mixed objective imitates in a step, for the prompts in these rows; the same on every learner. Not used where
  // there is an anchor, whose samples are imitated.
  std::function<std::vector<Imitated>(std::span<const std::int64_t> rows, std::int64_t step)> imitated;
};

// One online step on a scored batch, whose learned columns are filled (logp_reference, kl, entropy, value, advantage,
// returns). `rows`: of the prompts, one per samples_per_prompt sequences; `anchored`: scored samples of the anchor for
// the same prompts, where the method has one. `first_update`: the step's first, counted from 0 in the online phase, of
// `total_updates`. UserError (with prompts) when loss or gradient stop being finite.
Metrics online_step(LearnerState& state, const LearnerTools& tools, RolloutBatch& batch,
                    std::span<const std::int64_t> rows, std::int64_t step, std::int64_t first_update,
                    std::int64_t total_updates, const RolloutBatch* anchored = nullptr);

// Updates of one online step.
std::int64_t updates_per_step(const Settings& settings);

}  // namespace vbon
