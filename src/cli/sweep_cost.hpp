// What a sweep takes, by `vbon plan` for each of its runs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/sweep_plan.hpp"
#include "vbon/train/run_plan.hpp"

namespace vbon::cli {

struct SweepCost {
  std::vector<int> ranks, nodes;  // of each run
  std::vector<double> run_s;      // of each run, trained and evaluated; NaN: not known
  std::vector<double> stages_s;   // of each set of shared stages: the pool of the training prompts alone
  std::vector<int> stage_nodes;
  std::string why_not;  // the first reason for a NaN
};

// Ranks are those of the run, else of the grid's `launch` (-n, -np, --ntasks), else those that cluster.roles counts,
// else one. `given`:
// rates a rank, for machines other than this one; none: measured here, where runs compute on CPUs.
SweepCost sweep_cost(const SweepPlan& plan, const std::optional<ComputeRates>& given);

}  // namespace vbon::cli
