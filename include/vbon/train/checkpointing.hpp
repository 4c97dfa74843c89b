// A training run's state on disk and back: the policy as a Hugging Face folder, and what else the next step depends on.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "vbon/store/checkpoint.hpp"
#include "vbon/train/learner.hpp"

namespace vbon {

struct Counters {
  std::int64_t step = 0;  // the next step to do
  std::int64_t episodes = 0;
  std::int64_t tokens = 0;
  std::int64_t best_step = -1;
  double best_win = 0;  // of evaluations while training
};

// Writes and commits checkpoints/step-%08d of `counters.step`; the learners' root calls it. `manifest` brings identity
// and environment; step and parts are filled here.
Checkpoint save_checkpoint(const CheckpointFiles& files, const LearnerState& state, const Counters& counters,
                           const Settings& settings, Manifest manifest);

// Restores the learner's state; every learner rank calls it on the same checkpoint.
Counters load_checkpoint(const Checkpoint& checkpoint, LearnerState& state);

}  // namespace vbon
