// The policy (and the anchor) that a rank samples from: the learner's own where it learns, else a copy that the
// learners' root publishes to.
#pragma once

#include <memory>

#include "vbon/train/learner.hpp"
#include "vbon/train/rank_context.hpp"
#include "vbon/train/settings.hpp"
#include "vbon/train/trainable.hpp"

namespace vbon {

class RolloutWeights {
 public:
  // `learner`: null on ranks that do not learn. Both references outlive this.
  RolloutWeights(RankContext& context, const Settings& settings, const CausalLm& reference, LearnerState* learner);

  // Collective over the publishing group (nothing where there is none), once a step: the weights of `step`.
  void publish(std::int64_t step);

  // Null on ranks that do not sample, or without an anchor.
  const CausalLm* policy() const;
  const CausalLm* anchor() const;

 private:
  int root() const;  // the learners' root, as the publishing group numbers it
  void send(FlatParameters& parameters, std::int64_t size, std::int64_t step, const char* what);

  RankContext& context_;
  bool has_anchor_;
  LearnerState* learner_;
  std::unique_ptr<PolicyCopy> policy_, anchor_;  // of ranks that sample without learning
  std::int64_t published_step_ = -1;             // the same on every rank
};

}  // namespace vbon
