// The policy (and the anchor) that a rank samples from: with cluster.lag 0 the learner's own where it learns, too; else
// a copy that the learners' root publishes to. With lag 1 learners sample from a copy as well: what is in flight when a
// run resumes was drawn with weights that the learner no longer has.
#pragma once

#include <memory>

#include "vbon/train/checkpointing.hpp"
#include "vbon/train/learner.hpp"
#include "vbon/train/rank_context.hpp"
#include "vbon/train/settings.hpp"
#include "vbon/train/trainable.hpp"

namespace vbon {

class RolloutWeights {
 public:
  // `learner`: null on ranks that do not learn. All references outlive this.
  RolloutWeights(RankContext& context, const Settings& settings, const CausalLm& reference, LearnerState* learner);

  // Collective over the publishing group (nothing where there is none), once a version: the learner's weights, which
  // have seen `version` steps; or those that the root brings, whose tensors are empty elsewhere.
  void publish(std::int64_t version);
  void publish(const BehindWeights& behind);

  // Null on ranks that do not sample, or without an anchor.
  const CausalLm* policy() const;
  const CausalLm* anchor() const;

 private:
  int root() const;  // the learners' root, as the publishing group numbers it
  void publish(std::int64_t version, const at::Tensor& policy, const at::Tensor& anchor);
  void send(const at::Tensor& source, PolicyCopy* copy, std::int64_t version, const char* what);

  RankContext& context_;
  bool has_anchor_;
  LearnerState* learner_;
  std::unique_ptr<PolicyCopy> policy_, anchor_;  // of ranks that do not sample from the learner's own
  std::int64_t published_version_ = -1;          // the same on every rank
};

}  // namespace vbon
