// A training run's state on disk and back: the policy as a Hugging Face folder, and what else the next step depends on.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "vbon/store/checkpoint.hpp"
#include "vbon/train/counters.hpp"
#include "vbon/train/learner.hpp"

namespace vbon {

// The weights that the batch in flight is drawn with (cluster.lag 1): the policy's and the anchor's before the last
// step.
struct BehindWeights {
  std::int64_t version = -1;  // steps that they have seen; -1: nothing is in flight
  at::Tensor policy, anchor;  // flat; on the learners' root
};

// Writes and commits checkpoints/step-%08d of `counters.step`; the learners' root calls it, with the moments that all
// learners have put together (DataParallel::moments). `manifest` brings identity and environment; step and parts are
// filled here.
Checkpoint save_checkpoint(const CheckpointFiles& files, const LearnerState& state,
                           const std::pair<at::Tensor, at::Tensor>& moments, const BehindWeights& behind,
                           const Counters& counters, const Settings& settings, Manifest manifest);

// Restores the learner's state; every learner rank calls it on the same checkpoint. `behind` gets what is in flight.
Counters load_checkpoint(const Checkpoint& checkpoint, LearnerState& state, BehindWeights& behind);

}  // namespace vbon
