#include "train/online_batches.hpp"

#include <ATen/core/grad_mode.h>

#include <string>

#include "vbon/comm/agree.hpp"
#include "vbon/text/prompts.hpp"
#include "vbon/train/carried_trunk.hpp"
#include "vbon/train/run_plan.hpp"

namespace vbon {

OnlineBatches::OnlineBatches(RankContext& context, const Settings& settings, const TrainingInputs& in,
                             RolloutWeights& weights, const LearnerState* learner, CollectionTools tools,
                             const RolloutFiles& files, Provenance provenance)
    : context_(context), settings_(settings), in_(in), weights_(weights), learner_(learner), tools_(std::move(tools)),
      files_(files), provenance_(std::move(provenance)) {
  tools_.anchor = weights.anchor();
  tools_.ranks = in.ranks;
}

// What a step samples: with weights that have seen `version` steps.
Collection OnlineBatches::collection(std::int64_t step, std::int64_t version) const {
  const auto seed = static_cast<std::uint64_t>(*settings_.run.seed);
  Collection what;
  what.prompts = &in_.prompts.rows;
  what.rows =
      prompt_indices(seed, in_.prompts.key, in_.prompts.rows.num_prompts(), step, settings_.train.prompts_per_step);
  what.samples_per_prompt = static_cast<std::int32_t>(settings_.train.samples_per_prompt);
  what.prompts_per_chunk = train_chunk_prompts(settings_);
  what.sampling = settings_.sampling;
  what.eos_ids = in_.spec.eos_ids;
  what.stream = RandomStream(seed, Purpose::rollout, in_.prompts.key, step);
  what.trunk_block = carried_block(settings_, in_.spec);
  if (in_.prefix_values) what.prefix_every = in_.prefix_values->every;
  what.step = step;
  what.weights_version = version;
  what.files = &files_;
  what.header = {.provenance = provenance_, .step = step};
  what.anchor_samples = static_cast<std::int32_t>(anchor_samples(settings_));
  what.anchor_stream = RandomStream(seed, Purpose::anchor, in_.prompts.key, step);
  return what;
}

OnlineBatch OnlineBatches::take(std::int64_t step) {
  if (settings_.cluster.lag == 0) {
    weights_.publish(step);
    Collection what = collection(step, step);
    RolloutBatch rows = collect(context_, what, tools_);
    return {std::move(what), std::move(rows)};
  }
  OnlineBatch batch = complete_ ? std::move(*complete_) : in_flight(step);
  complete_.reset();
  behind_ = {};
  if (step + 1 < settings_.train.steps) {
    weights_.publish(step);
    drawing_.emplace(context_, collection(step + 1, step), tools_);
    drawing_->draw();
    if (context_.is_root()) remember_weights(step);
  }
  return batch;
}

void OnlineBatches::complete() {
  if (!drawing_) return;
  drawing_->score();
  RolloutBatch rows = drawing_->gather();
  complete_ = {drawing_->what(), std::move(rows)};
  drawing_.reset();
}

// The first online step has nothing in flight: it is drawn on policy. A resumed one draws again what was in flight.
OnlineBatch OnlineBatches::in_flight(std::int64_t step) {
  const std::string known = context_.is_root() ? std::to_string(behind_.version) : "";
  std::int64_t version =
      std::stoll(comm::from_root(*context_.everyone, known, context_.placement.learner_root(), "in flight"));
  if (version < 0) {
    version = step;
    weights_.publish(step);
  } else {
    behind_.version = version;
    weights_.publish(behind_);
  }
  Collection what = collection(step, version);
  RolloutBatch rows = collect(context_, what, tools_);
  return {std::move(what), std::move(rows)};
}

void OnlineBatches::remember_weights(std::int64_t version) {
  const at::NoGradGuard no_grad;
  behind_.version = version;
  behind_.policy = learner_->parameters.values().narrow(0, 0, learner_->policy_size).clone();
  if (learner_->anchor) behind_.anchor = learner_->anchor->parameters.values().clone();
}

}  // namespace vbon
