// What plans assume where the command line does not say it: how many ranks, and what a rank computes in a second.
#pragma once

#include <optional>

#include "vbon/cli/command_line.hpp"
#include "vbon/train/run_plan.hpp"

namespace vbon::cli {

// As many as cluster.roles counts; one where it counts none.
int ranks_of_roles(const Settings& settings);

// As --tflops and --gbps say; nullopt: they do not. UserError for one without the other.
std::optional<ComputeRates> rates_of(const CommandLine& line);
// Measured here, on the shapes of `plan`.
ComputeRates measure_rates_of(const RunPlan& plan, const Settings& settings, const PlanInputs& inputs);

}  // namespace vbon::cli
