// A plan for people and for programs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/plan_model.hpp"
#include "vbon/train/run_plan.hpp"

namespace vbon::cli {

// What the plan is held against.
struct PlanContext {
  std::optional<ComputeRates> rates;     // as measured here, or
  bool rates_given = false;              // as the command line says
  std::optional<ModelledStep> modelled;  // by --model
  std::int64_t node_memory = 0;          // bytes of this machine; 0: not known
  std::int64_t device_memory = 0;        // bytes of its smallest GPU; 0: none or not known
  std::int64_t free_disk = 0;            // bytes where the run folder will be; 0: not known
};

// What does not fit, one sentence each; empty: everything does.
std::vector<std::string> plan_warnings(const RunPlan& plan, const PlanContext& context);

std::string plan_text(const RunPlan& plan, const Settings& settings, const PlanContext& context);
std::string plan_json(const RunPlan& plan, const PlanContext& context);

}  // namespace vbon::cli
