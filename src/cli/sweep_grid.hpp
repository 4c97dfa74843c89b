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
//     - product: {ranks: [1, 2, 4]}   # `ranks` stands among the keys of set, product and zip: -n behind `launch`, the
//                                     # tasks of its job in Slurm; launch is then jobs/launch.sh or the like
//   slurm: {partition: gpu, time: "04:00:00"}   # options of sbatch, for --slurm; and runs_at_once, pool_shards
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
  int ranks = 0;  // started for it; 0: as `launch` says
};

struct Grid {
  std::string name;
  std::filesystem::path config, dir;
  std::vector<std::string> launch;
  std::vector<std::pair<std::string, std::string>> common;  // `set` of all runs; every run has it among its own
  std::vector<std::pair<std::string, std::string>> slurm;
  std::vector<GridRun> runs;

  // Whether a run says itself how many ranks it has; then all do.
  bool has_ranks() const;
};

// 0: the text is none.
int whole_number(std::string_view text);
// The number behind -n, -np or --ntasks (also with =) in a launcher's words; 0: none.
int ranks_of_launch(const std::vector<std::string>& words);

// UserError with everything that is wrong: unknown keys, lists of different lengths under zip, no runs, ranks in some
// runs only or in `launch` too.
Grid parse_grid(std::string_view text, const std::filesystem::path& file);
Grid read_grid(const std::filesystem::path& file);

}  // namespace vbon::cli
