#include "train/rollout_weights.hpp"

#include <span>

#include "vbon/comm/publish.hpp"

namespace vbon {

RolloutWeights::RolloutWeights(RankContext& context, const Settings& settings, const CausalLm& reference,
                               LearnerState* learner)
    : context_(context), has_anchor_(has_anchor(settings)), learner_(learner) {
  if (learner_ != nullptr || !context_.is(comm::Role::rollout)) return;
  policy_ = make_policy_copy(reference, settings.train.layers);
  if (has_anchor_) anchor_ = make_policy_copy(reference, settings.train.layers);
}

int RolloutWeights::root() const {
  int index = 0;
  for (int rank = 0; rank < context_.placement.learner_root(); ++rank)
    index += context_.placement.ranks[static_cast<std::size_t>(rank)].roles.has(comm::Role::rollout) ? 1 : 0;
  return index;
}

void RolloutWeights::send(FlatParameters& parameters, std::int64_t size, std::int64_t step, const char* what) {
  const std::span<float> values(parameters.values().mutable_data_ptr<float>(), static_cast<std::size_t>(size));
  comm::publish(*context_.publishing, std::as_writable_bytes(values), step, root(), what);
}

void RolloutWeights::publish(std::int64_t step) {
  if (context_.publishing == nullptr || published_step_ == step) return;
  published_step_ = step;
  const Phases::Scope scope(context_.phases, Phase::publish, context_.world.waiter());
  FlatParameters& policy = learner_ != nullptr ? learner_->parameters : policy_->parameters;
  send(policy, learner_ != nullptr ? learner_->policy_size : policy.size(), step, "weights");
  if (!has_anchor_) return;
  FlatParameters& anchor = (learner_ != nullptr ? learner_->anchor : anchor_)->parameters;
  send(anchor, anchor.size(), step, "anchor");
}

const CausalLm* RolloutWeights::policy() const {
  if (!context_.is(comm::Role::rollout)) return nullptr;
  return learner_ != nullptr ? &learner_->policy.model : &policy_->policy.model;
}

const CausalLm* RolloutWeights::anchor() const {
  if (!context_.is(comm::Role::rollout) || !has_anchor_) return nullptr;
  return learner_ != nullptr ? &learner_->anchor->policy.model : &anchor_->policy.model;
}

}  // namespace vbon
