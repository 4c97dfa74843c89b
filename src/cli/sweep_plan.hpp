// From a grid to runs: names by content, and the stages that runs share.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cli/sweep_grid.hpp"
#include "vbon/cli/commands.hpp"

namespace vbon::cli {

struct PlannedRun {
  std::string name;           // label and the first digits of the configuration's hash
  std::filesystem::path dir;  // run.dir
  std::vector<std::string>
      overrides;           // section.key=value, over the grid's configuration: the run is these and nothing else
  std::string hash;        // of the resolved configuration but run.dir, cluster, checkpoint and log; with cluster where
                           // the grid's runs say their ranks: they measure time
  int ranks = 0;           // 0: as the grid's `launch` says
  std::size_t stages = 0;  // which of SweepPlan::stages it uses
  Loaded loaded;
};

// Reference, reward models and pools that some of the runs share, made once with the configuration's own seed. A run
// that changes what one of them is made from has its own, under the configured path with a hash behind it.
struct SharedStages {
  std::vector<std::string> overrides;
  std::vector<std::string> paths;  // of what they make: reference, reward models, pools, head
  int ranks = 0;                   // the most of the runs that share them; 0: as the grid's `launch` says
};

struct SweepPlan {
  Grid grid;
  std::vector<SharedStages> stages;
  std::vector<PlannedRun> runs;
};

// Loads every run's configuration. UserError with the faults of all runs, and where two runs are the same.
SweepPlan plan_sweep(const Grid& grid, const std::vector<std::string>& overrides);

}  // namespace vbon::cli
