// The evaluations of a training run, every eval.every steps and after the last: eval/step-%08d.h5 and .json.
#pragma once

#include <cstdint>
#include <filesystem>

#include "train/training_inputs.hpp"
#include "vbon/store/rollout_files.hpp"
#include "vbon/train/evaluate.hpp"

namespace vbon {

class PeriodicEvaluation {
 public:
  // References outlive this. `tools`: how to sample from the published policy and to score; `learner`: null on ranks
  // that do not learn. Folder `eval/chunks` of the run is there.
  PeriodicEvaluation(RankContext& context, const Settings& settings, const TrainingInputs& in,
                     const LearnerState* learner, CollectionTools tools, Provenance provenance);

  bool is_due(std::int64_t step) const;
  // Collective over the world: whether an attempt before this one has evaluated these weights.
  bool is_there(std::int64_t step) const;
  // Collective over the world: evaluates the weights that are published and writes the files. The result is complete
  // on learners.
  Evaluation evaluate(std::int64_t step);
  double seconds() const { return seconds_; }  // of the last one, idle or not

 private:
  std::filesystem::path file(std::int64_t step) const;

  RankContext& context_;
  const Settings& settings_;
  const TrainingInputs& in_;
  const LearnerState* learner_;
  CollectionTools tools_;
  Provenance provenance_;
  RolloutFiles chunks_;
  double seconds_ = 0;
};

}  // namespace vbon
