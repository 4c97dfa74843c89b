// What `vbon plan` reads: config.json of the model, prompts, reward folders, this machine. No weights.
#pragma once

#include <string>
#include <vector>

#include "vbon/train/run_plan.hpp"

namespace vbon::cli {

struct ReadPlanInputs {
  PlanInputs inputs;
  std::vector<std::string> notes;  // what was not there, and what stands for it
};
// UserError for a model, prompts or rewards that are there and wrong, and where neither reference nor base is there.
ReadPlanInputs read_plan_inputs(const Settings& settings, int ranks);

}  // namespace vbon::cli
