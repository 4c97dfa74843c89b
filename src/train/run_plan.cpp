#include "vbon/train/run_plan.hpp"

#include <algorithm>

#include "train/plan_shapes.hpp"
#include "vbon/base/error.hpp"
#include "vbon/train/learner.hpp"
#include "vbon/train/pool_losses.hpp"

namespace vbon {
namespace {

std::int64_t count(const std::vector<int>& ranks) { return static_cast<std::int64_t>(ranks.size()); }

void check_inputs(const Settings& settings, const PlanInputs& inputs) {
  check(!inputs.topology.node_of_rank.empty() && inputs.model.num_layers > 0, "plan_run: ranks and a model");
  const std::int64_t needed = inputs.longest_prompt + settings.sampling.max_new_tokens;
  require(needed <= inputs.model.max_positions,
          "the longest prompt has {} tokens: with {} new ones it does not fit the model's {} positions; shorten it or "
          "lower sampling.max_new_tokens",
          inputs.longest_prompt, settings.sampling.max_new_tokens, inputs.model.max_positions);
  if (is_offline(settings.train.method) || inputs.num_prompts == 0) return;
  require(settings.train.prompts_per_step <= inputs.num_prompts,
          "train.prompts_per_step is {}, but '{}' holds {} prompts", settings.train.prompts_per_step,
          settings.prompts.train, inputs.num_prompts);
}

std::vector<std::string> notes_of(const Settings& settings, const PlanInputs& inputs, const RunPlan& plan) {
  std::vector<std::string> notes = plan.placement.notes;
  const BatchPlan& batch = plan.batch;
  const std::int64_t learners = count(plan.placement.learners);
  if (batch.chunks > 0 && batch.minibatch_sequences < learners)
    notes.push_back(fmt::format("{} of {} learners have nothing to do in an update: a minibatch has {} sequences",
                                learners - batch.minibatch_sequences, learners, batch.minibatch_sequences));
  const auto reward = [&](const RewardConfig& config, const PlannedReward& planned, const char* section) {
    if (config.kind == RewardKind::exec)
      notes.push_back(fmt::format("{}: memory and time of your program are not known and left out", section));
    else if (config.kind == RewardKind::classifier && !planned.encoder)
      notes.push_back(fmt::format("{}: its folder is not there yet, so its memory and time are left out", section));
  };
  reward(settings.reward, inputs.reward, "reward");
  if (settings.evaluator.configured()) reward(settings.evaluator, inputs.evaluator, "evaluator");
  if (inputs.num_prompts == 0) notes.emplace_back("prompts.train cannot be read yet: the pool's size is left out");
  return notes;
}

}  // namespace

std::int64_t online_chunks(const Settings& settings) {
  if (is_offline(settings.train.method)) return 0;
  return ceil_div(settings.train.prompts_per_step, train_chunk_prompts(settings));
}

BatchPlan plan_batch(const Settings& s, const PlanInputs&, const comm::Placement& placement) {
  BatchPlan b;
  const std::int64_t learners = count(placement.learners);
  b.steps = s.train.steps;
  const bool offline = is_offline(s.train.method);
  b.pool_updates = offline ? s.train.steps : s.train.warm_start;
  b.pool_samples = b.pool_updates > 0 ? pool_samples(s, offline ? s.train.method : Method::regression) : 0;
  b.online_steps = s.train.steps - b.pool_updates;
  b.chunks = online_chunks(s);
  if (b.chunks > 0) {
    b.prompts = s.train.prompts_per_step;
    b.samples = s.train.samples_per_prompt;
    b.sequences = b.prompts * b.samples;
    b.drawn = b.samples + anchor_samples(s);
    b.tokens = b.prompts * b.drawn * s.sampling.max_new_tokens;
    b.chunk_prompts = std::min(train_chunk_prompts(s), b.prompts);
    b.chunk_sequences = b.chunk_prompts * b.drawn;
    b.epochs = s.ppo.epochs;
    b.minibatches = s.train.minibatches;
    b.minibatch_sequences = ceil_div(b.sequences, b.minibatches);
    b.updates = updates_per_step(s);
    b.rollout_chunks = ceil_div(b.chunks, count(placement.rollouts));
    b.scorer_chunks = ceil_div(b.chunks, count(placement.scorers));
    b.rollout_sequences = std::min(b.prompts * b.drawn, b.rollout_chunks * b.chunk_sequences);
    b.scorer_sequences = std::min(b.prompts * b.drawn, b.scorer_chunks * b.chunk_sequences);
    b.learner_sequences = ceil_div(b.minibatch_sequences, learners);
  }
  if (b.pool_updates > 0) b.learner_sequences = std::max(b.learner_sequences, ceil_div(b.pool_samples, learners));
  b.micro_batch_sequences =
      std::min(s.train.micro_batch, std::max(b.learner_sequences, ceil_div(b.sequences, learners)));
  b.micro_batches = ceil_div(b.learner_sequences, s.train.micro_batch);
  b.run_updates = b.online_steps * b.updates + b.pool_updates;
  b.run_episodes = b.online_steps * b.sequences + b.pool_updates * b.pool_samples;
  b.run_tokens = b.run_episodes * s.sampling.max_new_tokens;
  return b;
}

RunPlan plan_run(const Settings& settings, const PlanInputs& inputs, const std::optional<ComputeRates>& rates) {
  check_inputs(settings, inputs);
  RunPlan plan;
  plan.placement = comm::plan(inputs.topology, settings.cluster.roles, static_cast<int>(online_chunks(settings)));
  plan.threads = comm::threads_per_rank(plan.placement, settings.cluster, inputs.cores_per_node);
  const ModelSizes sizes = model_sizes(settings, inputs.model);
  plan.parameters = sizes.parameters;
  plan.trained = sizes.trained;
  plan.critic = sizes.critic;
  plan.batch = plan_batch(settings, inputs, plan.placement);
  plan.memory = plan_memory(settings, inputs, plan.placement, plan.batch);
  plan.files = plan_files(settings, inputs, plan.placement, plan.batch);
  plan.time = plan_time(settings, inputs, plan.placement, plan.batch, rates);
  plan.notes = notes_of(settings, inputs, plan);
  return plan;
}

}  // namespace vbon
