// The command line, before anything is read: `vbon <command> -c config.yaml [-s section.key=value]...` and the few
// flags beside it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace vbon::cli {

struct CommandLine {
  std::string command;
  std::filesystem::path config;
  std::vector<std::string> overrides;
  bool dry_run = false, quiet = false, json = false, force = false;
  bool announced = false;  // a recipe's stage: the resolved configuration was printed already
  // pool
  std::int64_t shard = 0, num_shards = 1;
  bool merge = false;
  std::string split = "both";  // train | eval | both
  // pool, eval
  std::vector<std::string> evaluations;  // these alone, by name
  // run
  std::string from, until;  // the first and the last stage
  // sweep
  std::filesystem::path grid, slurm;
  std::optional<std::int64_t> only, stage;
  // plan, sweep --dry-run: what a rank sustains
  std::optional<double> tflops, gbps;
  // reward
  std::string section = "both";  // reward | evaluator | both
  // sample, score
  std::filesystem::path model, texts, output, prompt_file, pool;
  std::vector<std::string> prompts;
  std::int64_t best_of = 1, samples = 1, max_new_tokens = 0;
  std::optional<double> temperature;
  std::optional<std::int64_t> seed;
  // plan
  std::optional<int> ranks;
  std::filesystem::path step_model;
  // help
  std::vector<std::string> topics;
};

// Exits the process for --help (0); UserError for what cannot be understood.
CommandLine parse_command_line(int argc, char** argv);

}  // namespace vbon::cli
