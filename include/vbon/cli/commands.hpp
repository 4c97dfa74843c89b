// The commands: wiring from a configuration to the layers below. Each is one function in one file.
#pragma once

#include <string>
#include <vector>

#include "vbon/base/error.hpp"
#include "vbon/cli/command_line.hpp"
#include "vbon/cli/yaml.hpp"
#include "vbon/comm/mpi.hpp"
#include "vbon/train/training_run.hpp"

namespace vbon::cli {

struct Loaded {
  LoadedConfig<Settings> config;
  RunText text;
  const Settings& settings() const { return config.value; }
};

// Reads -c and -s; every error at once. Keys under `needed` must be set.
Loaded load_settings(const CommandLine& line, const std::vector<std::string>& needed);

// What runs before MPI: the configuration, and programs of exec rewards.
struct Prepared {
  Loaded loaded;
  RewardPrograms programs;
};

ExitCode run_sft_command(comm::Communicator& world, const CommandLine& line, Prepared& prepared);
ExitCode run_reward_command(comm::Communicator& world, const CommandLine& line, Prepared& prepared);
ExitCode run_pool_command(comm::Communicator& world, const CommandLine& line, Prepared& prepared);
ExitCode run_amortise_command(comm::Communicator& world, const CommandLine& line, Prepared& prepared);
ExitCode run_train_command(comm::Communicator& world, const CommandLine& line, Prepared& prepared);
ExitCode run_eval_command(comm::Communicator& world, const CommandLine& line, Prepared& prepared);
ExitCode run_recipe_command(comm::Communicator& world, const CommandLine& line, Prepared& prepared);
ExitCode run_score_command(comm::Communicator& world, const CommandLine& line, Prepared& prepared);

// Without MPI.
ExitCode run_sample_command(const CommandLine& line);
ExitCode run_sweep_command(const CommandLine& line);
ExitCode run_plan_command(const CommandLine& line);
ExitCode run_doctor_command(const CommandLine& line);
ExitCode run_help_command(const CommandLine& line);
ExitCode run_version_command(const CommandLine& line);

struct Command {
  const char* name;
  const char* help;
  ExitCode (*with_ranks)(comm::Communicator&, const CommandLine&, Prepared&);  // needs MPI and a configuration, or
  ExitCode (*alone)(const CommandLine&);                                       // neither
  std::vector<std::string> needed;                                             // keys and sections of the configuration
};
const std::vector<Command>& commands();

// main() without MPI's life time: everything from the command line to the exit code.
ExitCode run(int argc, char** argv);

}  // namespace vbon::cli
