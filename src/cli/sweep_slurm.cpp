#include "cli/sweep_slurm.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>
#include <vector>

#include "cli/sweep_process.hpp"
#include "vbon/base/error.hpp"
#include "vbon/cli/yaml_node.hpp"

namespace vbon::cli {
namespace {

// One word of shell, whatever it holds.
std::string quoted(const std::string& word) {
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

// Options of sbatch for a run's ranks: nodes are filled one after the other.
std::string tasks(int ranks, int per_node) {
  if (ranks == 0) return "";
  const int on_one = per_node > 0 ? std::min(ranks, per_node) : ranks;
  return fmt::format("--nodes={} --ntasks={} --ntasks-per-node={} ", (ranks + on_one - 1) / on_one, ranks, on_one);
}

// Numbers of an array's tasks by their ranks, in the order in which these come first: "0-1,4".
template <class T>
std::vector<std::pair<int, std::string>> arrays(const std::vector<T>& pieces) {
  std::vector<std::pair<int, std::vector<std::size_t>>> found;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const auto same =
        std::find_if(found.begin(), found.end(), [&](const auto& one) { return one.first == pieces[i].ranks; });
    if (same == found.end()) found.push_back({pieces[i].ranks, {i}});
    else same->second.push_back(i);
  }
  std::vector<std::pair<int, std::string>> result;
  for (const auto& [ranks, numbers] : found) {
    std::string text;
    for (std::size_t i = 0, last = 0; i < numbers.size(); i = last + 1) {
      for (last = i; last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1;) ++last;
      text += (text.empty() ? "" : ",") +
              (last == i ? fmt::format("{}", numbers[i]) : fmt::format("{}-{}", numbers[i], numbers[last]));
    }
    result.emplace_back(ranks, text);
  }
  return result;
}

}  // namespace

std::string slurm_script(const SweepPlan& plan, const std::filesystem::path& grid_file,
                         const std::filesystem::path& program) {
  std::string options;
  std::string most = "%16";  // runs at once
  int per_node = 0, shards = 1;
  for (const auto& [key, value] : plan.grid.slurm) {
    const std::string text = unquoted(value);
    if (key == "ntasks-per-node") std::from_chars(text.data(), text.data() + text.size(), per_node);
    if (key == "pool_shards") {
      shards = whole_number(text);
      require(shards >= 1, "slurm.pool_shards: '{}' is no whole number from 1 on", text);
    } else if (key == "runs_at_once") most = "%" + text;
    else options += fmt::format(" {}", quoted("--" + key + "=" + text));
  }
  const std::string logs = quoted((plan.grid.dir / "logs").string()), grid = quoted(grid_file.string());
  std::string submitted;
  // Pools in shards: the models that they are drawn with first, then an array over the shards of all stages, then what
  // is left of the stages, the merge.
  if (shards > 1) {
    std::vector<SharedStages> pieces;
    for (const SharedStages& one : plan.stages) pieces.insert(pieces.end(), static_cast<std::size_t>(shards), one);
    for (const auto& [ranks, numbers] : arrays(plan.stages))
      submitted += fmt::format("models+=:$(piece {}--array={} --output={}/models-%a.slurm -- {} --models)\n",
                               tasks(ranks, per_node), numbers, logs, grid);
    for (const auto& [ranks, numbers] : arrays(pieces))
      submitted += fmt::format(
          "shards+=:$(piece {}--array={}{} --output={}/shard-%a.slurm --dependency=\"afterok$models\" -- {} --shard {})\n",
          tasks(ranks, per_node), numbers, most, logs, grid, shards);
  }
  const std::string after_shards = shards > 1 ? "--dependency=\"afterok$shards\" " : "";
  for (const auto& [ranks, numbers] : arrays(plan.stages))
    submitted += fmt::format("stages+=:$(piece {}--array={} --output={}/stages-%a.slurm {}-- {} --stage)\n",
                             tasks(ranks, per_node), numbers, logs, after_shards, grid);
  for (const auto& [ranks, numbers] : arrays(plan.grid.runs))
    submitted += fmt::format(
        "runs+=:$(piece {}--array={}{} --output={}/run-%a.slurm --dependency=\"afterok$stages\" -- {} --only)\n",
        tasks(ranks, per_node), numbers, most, logs, grid);
  const std::string found = jobs_folder(program).string();
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

models='' shards='' stages='' runs=''
{submitted}report=$(piece --nodes=1 --ntasks=1 --output={logs}/report.slurm --dependency="afterany$runs" -- {dir} {what})
echo "stages ${{stages#:}}, runs ${{runs#:}}, report $report"
)",
      fmt::arg("name", plan.grid.name), fmt::arg("stages", plan.stages.size()), fmt::arg("runs", plan.grid.runs.size()),
      fmt::arg("logs", logs), fmt::arg("options", options), fmt::arg("job", quoted(plan.grid.name)),
      fmt::arg("jobs", found.empty() ? "" : quoted(found)), fmt::arg("program", quoted(program.string())),
      fmt::arg("submitted", submitted), fmt::arg("dir", quoted(plan.grid.dir.string())),
      fmt::arg("what", plan.grid.has_ranks() ? "scaling" : "report"));
}

}  // namespace vbon::cli
