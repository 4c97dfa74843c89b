// Shared by the commands: the resolved configuration on screen, progress of steps, the evaluation's table.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "vbon/cli/commands.hpp"
#include "vbon/cli/progress.hpp"
#include "vbon/train/evaluate.hpp"

namespace vbon::cli {

// Prints the resolved configuration (root, unless --quiet). True: --dry-run, nothing else is to be done.
bool announce(const CommandLine& line, const Loaded& loaded);
// UserError with all of `found`, if any.
void refuse(const std::vector<std::string>& found);

struct RewardSection {
  std::string name;  // "reward", "evaluator", "rewards.NAME"
  const RewardConfig& config;
};
// Those that say what they are trained on.
std::vector<RewardSection> trained_rewards(const Settings& settings);

// Results on standard output are either all there or an EnvironmentError; a reader that has seen enough (a closed pipe)
// is none.
void flush_output();

// Of work that begins now, shown as --quiet and log.every_s have it (`line_every_s` is filled here).
std::unique_ptr<Progress> start_progress(const CommandLine& line, const Settings& settings, ProgressOptions options);

// An evaluation of a configuration: its name, and the settings (with their text) under which it is the main one.
struct NamedEvaluation {
  std::string name;
  Settings settings;
  RunText text;
};
// That of prompts.eval where one is configured, then those of section evaluations; with `line.evaluations` only those.
// UserError for a name that is none.
std::vector<NamedEvaluation> evaluations_of(const CommandLine& line, const Loaded& loaded);

std::string evaluation_text(const Evaluation& evaluation);
// "reward -0.51  log F -0.9 …": the figures that matter, in a fixed order, of those measured.
std::string figures_text(const Metrics& metrics);

}  // namespace vbon::cli
