// What a training run reads, and derives from it, before its first step; on each rank what its roles need.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vbon/model/causal_lm.hpp"
#include "vbon/reward/scorer.hpp"
#include "vbon/text/tokenizer.hpp"
#include "vbon/train/learner.hpp"
#include "vbon/train/pool_losses.hpp"
#include "vbon/train/prefixes.hpp"
#include "vbon/train/run_inputs.hpp"
#include "vbon/train/settings.hpp"
#include "vbon/train/training_run.hpp"

namespace vbon {

// Whether a step learns from the pool alone: a warm start is regression.
bool is_offline_step(const Settings& settings, std::int64_t step);
Method offline_method(const Settings& settings);

struct TrainingInputs {
  // Collective over the context's world. UserError before work starts for whatever does not fit.
  TrainingInputs(RankContext& context, const Settings& settings, const RunText& text, const RewardPrograms& programs);
  TrainingInputs(const TrainingInputs&) = delete;  // parts refer to each other
  TrainingInputs& operator=(const TrainingInputs&) = delete;

  LearnerTools learner_tools(const Settings& settings, Phases& phases) const;

  Identities identities;
  std::string forced;  // what --force overrode
  std::optional<Tokenizer> tokenizer;
  LmSpec spec;
  Prompts prompts;
  std::optional<Prompts> eval_prompts;
  std::optional<UsedPool> pool, eval_pool;
  CausalLm reference;                                      // learners and rollout workers
  std::unique_ptr<RewardModel> reward, evaluator;          // scorers
  std::vector<std::unique_ptr<RewardModel>> more_rewards;  // scorers; of section rewards
  RewardRanks ranks;                          // of the main reward, by row of prompts; none without a pool or a head
  std::unique_ptr<PoolLoss> pool_loss;        // of offline steps; learners
  std::optional<PrefixValues> prefix_values;  // of ppo.baseline prefix
};

}  // namespace vbon
