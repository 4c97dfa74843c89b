// Files by the columns of their schemas, and what ranks send each other.
#include <algorithm>

#include "train/plan_shapes.hpp"

namespace vbon {
namespace {

constexpr std::int64_t kFloat = 4;
constexpr std::int64_t kFileOverhead =
    16 * 1024;  // of an HDF5 file: its attributes (the configuration) and object headers
constexpr std::int64_t kCheckpointOverhead = 8 * 1024;  // headers of safetensors, JSON files
constexpr std::int64_t kMetricsLine = 2 * 1024;

// Bytes of a sequence in a rollout file of a stage, by the columns that the stage has.
std::int64_t rollout_row(RolloutStage stage, std::int64_t width, bool with_log_f, bool with_evaluator) {
  std::int64_t bytes = 0;
  const auto add = [&](std::string_view name, const auto& values, RolloutStage since, Per per) {
    const bool measured =
        (name != "evaluator" || with_evaluator) && (with_log_f || !(name == "log_f" || name.starts_with("at_")));
    if (since <= stage && (measured || stage == RolloutStage::learned))
      bytes += static_cast<std::int64_t>(sizeof(values[0])) * (per == Per::token ? width : per == Per::reward ? 0 : 1);
  };
  RolloutBatch columns;
  RolloutBatch::visit(add, columns);
  return bytes;
}

// Prompts of about four bytes a token, and their samples.
std::int64_t sample_block_bytes(const Settings& s, const PlanInputs& in, std::int64_t prompts, std::int64_t samples,
                                std::int64_t reward_copies) {
  const std::int64_t prompt = 8 + 64 + 8 + 2 * 16 + static_cast<std::int64_t>(in.prompt_tokens * 8);
  const std::int64_t rewards = s.evaluator.configured() ? 2 : 1;
  const std::int64_t sample = kFloat * s.sampling.max_new_tokens + 9 + rewards * reward_copies * kFloat;
  return prompts * (prompt + samples * sample) + kFileOverhead;
}

}  // namespace

FilePlan plan_files(const Settings& s, const PlanInputs& in, const comm::Placement& placement, const BatchPlan& b) {
  FilePlan f;
  const ModelSizes sizes = model_sizes(s, in.model);
  const std::int64_t t = s.sampling.max_new_tokens;
  const bool evaluator = s.evaluator.configured() && evaluates(s);
  if (b.chunks > 0) {
    f.chunk_files = 2 * b.chunks;
    f.chunk_bytes = b.sequences * (rollout_row(RolloutStage::sampled, t, false, false) +
                                   rollout_row(RolloutStage::scored, t, reads_pool(s), evaluator)) +
                    f.chunk_files * kFileOverhead;
    if (s.rollouts.carry_trunk && sizes.frozen_blocks > 0)
      f.chunk_bytes += static_cast<std::int64_t>(
          2 * kFloat * static_cast<double>(in.model.hidden_size) *
          (static_cast<double>(b.sequences * (t - 1)) + static_cast<double>(b.prompts) * in.prompt_tokens));
    f.step_bytes = b.sequences * rollout_row(RolloutStage::learned, t, true, true) + kFileOverhead;
    // Every chunk is written under another name, renamed, read by one rank and removed; the step's file stays for a
    // while.
    f.step_operations = 4 * f.chunk_files + 2 + (s.rollouts.keep.last > 0 ? 1 : 0);
    f.steps_kept = s.rollouts.keep.last > 0 ? std::min(s.rollouts.keep.last, b.online_steps) : b.online_steps;
  }
  const std::int64_t flat = sizes.trained + sizes.critic;
  const std::int64_t frozen = sizes.parameters - sizes.trained;
  f.checkpoint_files = 7 + in.tokenizer_files + (sizes.critic > 0 ? 1 : 0);
  f.checkpoint_bytes = sizes.trained * kFloat + frozen * sizes.element_bytes + 2 * flat * kFloat +
                       sizes.critic * kFloat + in.tokenizer_bytes + kCheckpointOverhead;
  const std::int64_t every = s.checkpoint.every;
  f.checkpoints_written = 1;
  for (std::int64_t step = 1; step < b.steps; ++step)  // any evaluation may be the best so far
    f.checkpoints_written += (every > 0 && step % every == 0) || (evaluates(s) && step % s.eval.every == 0) ? 1 : 0;
  const std::int64_t best = evaluates(s) ? 1 : 0;
  f.checkpoints_kept = s.checkpoint.keep.last > 0 ? std::min(f.checkpoints_written, s.checkpoint.keep.last + best)
                                                  : f.checkpoints_written;
  if (evaluates(s)) {
    f.evaluations = b.steps / s.eval.every + 1 + (b.steps % s.eval.every != 0 ? 1 : 0);
    f.evaluation_bytes = sample_block_bytes(s, in, in.num_eval_prompts, s.eval.samples, 1) +
                         in.num_eval_prompts * s.eval.samples * kFloat;
    f.eval_pool_bytes = in.num_eval_prompts > 0 ? sample_block_bytes(s, in, in.num_eval_prompts, s.pool.samples, 2) : 0;
  }
  if (reads_pool(s) && in.num_prompts > 0)
    f.pool_bytes = sample_block_bytes(s, in, in.num_prompts, s.pool.samples, 2) + kept_trunk_bytes(s, in);
  const std::int64_t metrics = 2 * b.steps * kMetricsLine;
  const std::int64_t at_once =
      std::min(f.checkpoints_written, f.checkpoints_kept + 1);  // a new one before an old one goes
  f.run_bytes = f.steps_kept * f.step_bytes + f.chunk_bytes + at_once * f.checkpoint_bytes +
                f.evaluations * f.evaluation_bytes + metrics;
  f.total_bytes = f.run_bytes + f.pool_bytes + f.eval_pool_bytes;
  f.written_bytes = b.online_steps * (f.chunk_bytes + f.step_bytes) + f.checkpoints_written * f.checkpoint_bytes +
                    f.evaluations * f.evaluation_bytes + metrics;
  const auto learners = static_cast<std::int64_t>(placement.learners.size());
  std::int64_t receivers = 0;
  for (const comm::Assignment& rank : placement.ranks)
    receivers += rank.roles.has(comm::Role::rollout) && !rank.roles.has(comm::Role::learner) ? 1 : 0;
  f.publish_bytes = receivers * sizes.trained * kFloat;
  const std::int64_t updates = b.chunks > 0 ? b.updates : 1;
  f.gradient_bytes = 2 * (learners - 1) * flat * kFloat * updates;
  return f;
}

}  // namespace vbon
