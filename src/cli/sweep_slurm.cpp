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

}  // namespace

std::string slurm_script(const SweepPlan& plan, const std::filesystem::path& grid_file,
                         const std::filesystem::path& program) {
  std::string options;
  std::string most = "%16";  // runs at once
  for (const auto& [key, value] : plan.grid.slurm) {
    if (key == "runs_at_once") most = "%" + bare(value);
    else options += fmt::format(" {}", quoted("--" + key + "=" + bare(value)));
  }
  const std::string sweep = fmt::format("{} sweep {}", quoted(program.string()), quoted(grid_file.string()));
  const std::string logs = (plan.grid.dir / "logs").string();
  return fmt::format(
      R"(#!/usr/bin/env bash
# Submits the sweep '{name}': {stages} of shared stages, {runs} runs, then the report. Written by vbon sweep --slurm; each
# job is a `vbon sweep` of one piece, so submitting again does only what is missing.
set -euo pipefail
mkdir -p {logs}
options=({options})
submit() {{ sbatch --parsable --requeue --open-mode=append "${{options[@]}}" "$@"; }}

stages=$(submit --job-name={job}-stages --array=0-{last_stage} --output={logs}/stages-%a.slurm \
  --wrap {run_stage})
runs=$(submit --job-name={job}-runs --array=0-{last_run}{most} --output={logs}/run-%a.slurm \
  --dependency="afterok:$stages" --wrap {run_one})
report=$(submit --job-name={job}-report --ntasks=1 --output={logs}/report.slurm \
  --dependency="afterany:$runs" --wrap {report})
echo "stages $stages, runs $runs, report $report"
)",
      fmt::arg("name", plan.grid.name), fmt::arg("stages", plan.stages.size()), fmt::arg("runs", plan.grid.runs.size()),
      fmt::arg("logs", quoted(logs)), fmt::arg("options", options), fmt::arg("job", quoted(plan.grid.name)),
      fmt::arg("last_stage", plan.stages.size() - 1), fmt::arg("last_run", plan.grid.runs.size() - 1),
      fmt::arg("most", most), fmt::arg("run_stage", quoted(sweep + " --stage $SLURM_ARRAY_TASK_ID")),
      fmt::arg("run_one", quoted(sweep + " --only $SLURM_ARRAY_TASK_ID")),
      fmt::arg("report", quoted(fmt::format("python3 -m analysis report {}", quoted(plan.grid.dir.string())))));
}

}  // namespace vbon::cli
