// How far a training run has come, as its checkpoints keep it: state/counters.json.
#pragma once

#include <cstdint>
#include <filesystem>

namespace vbon {

struct Counters {
  std::int64_t step = 0;  // the next step to do
  std::int64_t episodes = 0;
  std::int64_t tokens = 0;
  std::int64_t best_step = -1;
  double best_win = 0;  // of evaluations while training
};

struct SavedCounters {
  Counters run;
  std::int64_t behind = -1;  // BehindWeights::version
  std::int64_t optimizer_steps = 0;
  double kl_coef = 0;
};

void write_counters(const std::filesystem::path& path, const SavedCounters& counters);
SavedCounters read_counters(const std::filesystem::path& path);  // UserError

}  // namespace vbon
