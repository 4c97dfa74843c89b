// `vbon train`: steps on the pool (offline methods, the warm start) and of the online loop, across roles, with
// checkpoints, metrics and evaluations; killed at any moment and started again it goes on as if it had not been.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vbon/base/error.hpp"
#include "vbon/comm/mpi.hpp"
#include "vbon/train/evaluate.hpp"
#include "vbon/train/learner.hpp"
#include "vbon/train/settings.hpp"

namespace vbon {

// The configuration as text, for provenance and for the decision whether a folder's run is this one.
struct RunText {
  std::string resolved_yaml;
  std::string hash;  // of the keys that may not change on resume
  std::function<std::vector<std::string>(const std::string& saved)> changed_keys;
  std::string job;              // of the batch system; empty: none
  std::optional<double> end_s;  // of the allocation, since 1970, where this rank knows it
  bool force = false;
};

// What the learners' root, known only once the ranks have their roles, tells whoever shows progress.
struct TrainingObserver {
  std::function<void(std::int64_t done)> started;  // before the first step; `done` by the checkpoint that is resumed
  std::function<void(std::int64_t done, std::int64_t total, const Metrics& metrics)> step;
  std::function<void(std::int64_t step, const Evaluation& evaluation)> evaluated;
};

struct TrainingResult {
  ExitCode code = ExitCode::ok;  // requeue: stopped by a signal with a checkpoint
  std::int64_t steps_done = 0;
  std::string final_checkpoint;  // folder; on the root
};

// Collective over the world. UserError before work starts for whatever does not fit.
TrainingResult run_training(comm::Communicator& world, const Settings& settings, const RunText& text,
                            RewardPrograms& programs, const TrainingObserver& observer);

}  // namespace vbon
