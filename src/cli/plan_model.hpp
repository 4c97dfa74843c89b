// A plan's step by a model that was fitted on measured runs (`vbon plan --model`).
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "vbon/cli/yaml.hpp"
#include "vbon/train/run_plan.hpp"
#include "vbon/train/step_model.hpp"

namespace vbon::cli {

struct ModelledStep {
  std::string file;
  StepModel model;
  double sequences = 0, updates = 0, sent_bytes = 0;  // of a step; what one rank sends
  StepTerms seconds;                                  // what each term gives to a step
  double run_seconds = 0;                             // of the steps alone
  bool beyond = false;                                // more ranks than were measured
};

StepModel read_step_model(const std::filesystem::path& file);

// nullopt where the model says nothing of such a plan: ranks that do different things. `notes` gets why, and in what
// the plan differs from what was measured.
std::optional<ModelledStep> modelled_step(const RunPlan& plan, const StepModel& model, const std::string& file,
                                          const ResolvedConfig& config, std::vector<std::string>& notes);

}  // namespace vbon::cli
