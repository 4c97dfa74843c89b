// The grid file of `vbon sweep`: which runs a study has.
//
//   name: objectives                  # of the study; default: the file's name
//   config: ../quickstart.yaml        # what every run starts from, relative to the grid file
//   dir: runs/sweeps/objectives       # everything that the sweep writes
//   seeds: [1, 2, 3]                  # run.seed of the runs; default: that of the configuration
//   launch: [jobs/mpirun.sh, -n, 3]   # what starts a run's ranks ([jobs/launch.sh] in Slurm); default: one process
//   set: {eval.samples: 64}           # of all runs
//   runs:                             # blocks: every combination of `product`, with `zip` in step, for every seed
//     - name: vbon
//       set: {train.method: vbon}
//       product: {vbon.N: [2, 4, 8], vbon.objective: [exact, L]}
//     - set: {train.method: dpo}
//       zip: {preference.beta: [0.1, 1], optimizer.learning_rate: [1e-5, 3e-6]}
//   slurm: {partition: gpu, time: "04:00:00"}   # options of sbatch, for --slurm
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vbon::cli {

struct GridRun {
  std::string label;  // of its block, with the values that vary in it: vbon-N4-L
  // Keys in the order given, values as flow YAML; run.seed is among them where the grid has seeds.
  std::vector<std::pair<std::string, std::string>> overrides;
};

struct Grid {
  std::string name;
  std::filesystem::path config, dir;
  std::vector<std::string> launch;
  std::vector<std::pair<std::string, std::string>> common;  // `set` of all runs; every run has it among its own
  std::vector<std::pair<std::string, std::string>> slurm;
  std::vector<GridRun> runs;
};

// UserError with everything that is wrong: unknown keys, lists of different lengths under zip, no runs.
Grid parse_grid(std::string_view text, const std::filesystem::path& file);
Grid read_grid(const std::filesystem::path& file);

}  // namespace vbon::cli
