#include "cli/sweep_slurm.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace vbon::cli {
namespace {

// One word of shell, whatever it holds.
std::string quoted(const std::string& word) {
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

std::string bare(const std::string& yaml) {
  const bool has_quotes =
      yaml.size() >= 2 && (yaml.front() == '"' || yaml.front() == '\'') && yaml.front() == yaml.back();
  return has_quotes ? yaml.substr(1, yaml.size() - 2) : yaml;
}

// jobs/ of the checkout that the program was built in; empty: it has been taken elsewhere.
std::string jobs_folder(const std::filesystem::path& program) {
  for (std::filesystem::path at = program.parent_path(); at.has_relative_path(); at = at.parent_path())
    if (std::filesystem::exists(at / "jobs" / "sweep.sbatch")) return (at / "jobs").string();
  return "";
}

}  // namespace

std::string slurm_script(const SweepPlan& plan, const std::filesystem::path& grid_file,
                         const std::filesystem::path& program) {
  std::string options;
  std::string most = "%16";  // runs at once
  for (const auto& [key, value] : plan.grid.slurm) {
    if (key == "runs_at_once") most = "%" + bare(value);
    else options += fmt::format(" {}", quoted("--" + key + "=" + bare(value)));
  }
  const std::string logs = (plan.grid.dir / "logs").string(), found = jobs_folder(program);
  return fmt::format(
      R"(#!/usr/bin/env bash
# Submits the sweep '{name}': {stages} of shared stages, {runs} runs, then the report. Written by vbon sweep --slurm; each
# job is jobs/sweep.sbatch with one piece, so submitting again does only what is missing. Options of sbatch may follow.
VBON_JOBS=${{VBON_JOBS:-{jobs}}}
source "${{VBON_JOBS:?name the folder jobs/ of the checkout of vbon}}/slurm.sh"
export VBON={program}
mkdir -p {logs}
options=({options} "$@")
piece() {{ submit sweep --job-name={job} "${{options[@]}}" "$@"; }}

stages=$(piece --array=0-{last_stage} --output={logs}/stages-%a.slurm -- {grid} --stage)
runs=$(piece --array=0-{last_run}{most} --output={logs}/run-%a.slurm --dependency="afterok:$stages" -- {grid} --only)
report=$(piece --ntasks=1 --output={logs}/report.slurm --dependency="afterany:$runs" -- {dir} report)
echo "stages $stages, runs $runs, report $report"
)",
      fmt::arg("name", plan.grid.name), fmt::arg("stages", plan.stages.size()), fmt::arg("runs", plan.grid.runs.size()),
      fmt::arg("logs", quoted(logs)), fmt::arg("options", options), fmt::arg("job", quoted(plan.grid.name)),
      fmt::arg("jobs", found.empty() ? "" : quoted(found)), fmt::arg("program", quoted(program.string())),
      fmt::arg("last_stage", plan.stages.size() - 1), fmt::arg("last_run", plan.grid.runs.size() - 1),
      fmt::arg("most", most), fmt::arg("grid", quoted(grid_file.string())),
      fmt::arg("dir", quoted(plan.grid.dir.string())));
}

}  // namespace vbon::cli
