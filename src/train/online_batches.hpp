// The batches that the online loop learns from, and which weights each was drawn with.
//
// Lag 0: a step's batch is drawn with the weights of that step. Lag 1: it was drawn while the step before was learned;
// the next one is drawn, with the weights as they are now, while this one is learned. What is in flight is not saved: a
// run that resumes draws it again with the weights behind (BehindWeights), which a checkpoint keeps.
#pragma once

#include <cstdint>
#include <optional>

#include "train/rollout_weights.hpp"
#include "train/training_inputs.hpp"
#include "vbon/store/rollout_files.hpp"
#include "vbon/train/collect.hpp"

namespace vbon {

struct OnlineBatch {
  Collection what;
  RolloutBatch rows;  // on learners
};

class OnlineBatches {
 public:
  // References outlive this. `tools`: how to sample and score; `learner`: null on ranks that do not learn.
  OnlineBatches(RankContext& context, const Settings& settings, const TrainingInputs& in, RolloutWeights& weights,
                const LearnerState* learner, CollectionTools tools, const RolloutFiles& files, Provenance provenance);

  // All collective over the world. take: the batch of a step; complete: after it was learned.
  OnlineBatch take(std::int64_t step);
  void complete();

  // On the learners' root: what a checkpoint keeps, and brings back before the first take.
  const BehindWeights& behind() const { return behind_; }
  void resume(BehindWeights behind) { behind_ = std::move(behind); }

 private:
  Collection collection(std::int64_t step, std::int64_t version) const;
  OnlineBatch in_flight(std::int64_t step);
  void remember_weights(std::int64_t version);

  RankContext& context_;
  const Settings& settings_;
  const TrainingInputs& in_;
  RolloutWeights& weights_;
  const LearnerState* learner_;
  CollectionTools tools_;
  const RolloutFiles& files_;
  Provenance provenance_;
  std::optional<Collecting> drawing_;    // the next step's, while this one is learned
  std::optional<OnlineBatch> complete_;  // of the next step
  BehindWeights behind_;
};

}  // namespace vbon
