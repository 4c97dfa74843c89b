// The submit script of a sweep: shared stages, then the array of runs, then the report, chained by dependencies.
#pragma once

#include <filesystem>
#include <string>

#include "cli/sweep_plan.hpp"

namespace vbon::cli {

// A bash script that submits jobs/sweep.sbatch of the checkout that `program` was built in. `grid_file` as the jobs
// will find it.
std::string slurm_script(const SweepPlan& plan, const std::filesystem::path& grid_file,
                         const std::filesystem::path& program);

}  // namespace vbon::cli
