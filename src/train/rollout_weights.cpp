#include "train/rollout_weights.hpp"

#include <ATen/core/grad_mode.h>

#include <span>

#include "vbon/comm/publish.hpp"

namespace vbon {

RolloutWeights::RolloutWeights(RankContext& context, const Settings& settings, const CausalLm& reference,
                               LearnerState* learner)
    : context_(context), has_anchor_(has_anchor(settings)), learner_(learner) {
  if (!context_.is(comm::Role::rollout) || (learner_ != nullptr && settings.cluster.lag == 0)) return;
  policy_ = make_policy_copy(reference, settings.train.layers);
  if (has_anchor_) anchor_ = make_policy_copy(reference, settings.train.layers);
}

int RolloutWeights::root() const {
  int index = 0;
  for (int rank = 0; rank < context_.placement.learner_root(); ++rank)
    index += context_.placement.ranks[static_cast<std::size_t>(rank)].roles.has(comm::Role::rollout) ? 1 : 0;
  return index;
}

// From `source`, on learners, to `copy`, on ranks that have one.
void RolloutWeights::send(const at::Tensor& source, PolicyCopy* copy, std::int64_t version, const char* what) {
  const at::NoGradGuard no_grad;
  if (context_.publishing == nullptr) {
    if (copy == nullptr) return;
    copy->parameters.values().copy_(source);
    copy->parameters.refresh();
    return;
  }
  // The root sends from where the weights are; the others receive where they sample: learners that sample from their
  // own receive the bits that are there.
  const bool is_root = context_.publishing->rank() == root();
  const at::Tensor& buffer = is_root || copy == nullptr ? source : copy->parameters.values();
  const std::span<float> values(buffer.mutable_data_ptr<float>(), static_cast<std::size_t>(buffer.numel()));
  const std::int64_t received =
      comm::publish(*context_.publishing, std::as_writable_bytes(values), version, root(), what);
  check(received == version, "the weights of the version that is sampled from");
  if (copy == nullptr) return;
  if (is_root) copy->parameters.values().copy_(source);
  copy->parameters.refresh();
}

void RolloutWeights::publish(std::int64_t version, const at::Tensor& policy, const at::Tensor& anchor) {
  if (published_version_ == version) return;
  published_version_ = version;
  const Phases::Scope scope(context_.phases, Phase::publish, context_.world.waiter());
  send(policy, policy_.get(), version, "weights");
  if (has_anchor_) send(anchor, anchor_.get(), version, "anchor");
}

void RolloutWeights::publish(std::int64_t version) {
  if (context_.publishing == nullptr && policy_ == nullptr) return;
  at::Tensor policy, anchor;
  if (learner_ != nullptr) {
    policy = learner_->parameters.values().narrow(0, 0, learner_->policy_size);
    if (has_anchor_) anchor = learner_->anchor->parameters.values();
  }
  publish(version, policy, anchor);
}

void RolloutWeights::publish(const BehindWeights& behind) {
  if (context_.publishing == nullptr && policy_ == nullptr) return;
  publish(behind.version, behind.policy, behind.anchor);
}

const CausalLm* RolloutWeights::policy() const {
  if (!context_.is(comm::Role::rollout)) return nullptr;
  return policy_ ? &policy_->policy.model : &learner_->policy.model;
}

const CausalLm* RolloutWeights::anchor() const {
  if (!context_.is(comm::Role::rollout) || !has_anchor_) return nullptr;
  return anchor_ ? &anchor_->policy.model : &learner_->anchor->policy.model;
}

}  // namespace vbon
