#include <algorithm>
#include <filesystem>
#include <iterator>

#include "cli/host.hpp"
#include "cli/plan_inputs.hpp"
#include "cli/plan_model.hpp"
#include "cli/plan_rates.hpp"
#include "cli/plan_text.hpp"
#include "cli/stage.hpp"
#include "vbon/base/log.hpp"
#include "vbon/comm/doctor.hpp"

namespace vbon::cli {
namespace {

namespace fs = std::filesystem;

constexpr int kMostRanks = 1'000'000;

// Free bytes where a folder is or will be; 0: not known.
std::int64_t free_bytes_at(const fs::path& folder) {
  std::error_code error;
  fs::path there = fs::absolute(folder, error);
  while (!there.empty() && there != there.root_path() && !fs::exists(there, error)) there = there.parent_path();
  const fs::space_info space = fs::space(there, error);
  return error ? 0 : static_cast<std::int64_t>(space.available);
}

std::int64_t smallest_device() {
  std::int64_t smallest = 0;
  for (const comm::CudaDevice& device : comm::cuda_facts().devices)
    smallest = smallest == 0 ? static_cast<std::int64_t>(device.bytes)
                             : std::min(smallest, static_cast<std::int64_t>(device.bytes));
  return smallest;
}

}  // namespace

ExitCode run_plan_command(const CommandLine& line) {
  require(!line.ranks || (*line.ranks >= 1 && *line.ranks <= kMostRanks),
          "--ranks {} is not a number of ranks (1 to {})", line.ranks.value_or(0), kMostRanks);
  const Loaded loaded = load_settings(line, {"model.reference"});
  const Settings& settings = loaded.settings();
  std::vector<std::string> found = problems(settings);
  for (std::string& text : problems(settings.reward, "reward")) found.push_back(std::move(text));
  if (settings.evaluator.configured())
    for (std::string& text : problems(settings.evaluator, "evaluator")) found.push_back(std::move(text));
  refuse(found);

  std::optional<StepModel> model;
  if (!line.step_model.empty()) model = read_step_model(line.step_model);
  ReadPlanInputs read = read_plan_inputs(settings, line.ranks.value_or(ranks_of_roles(settings)));
  RunPlan plan = plan_run(settings, read.inputs, std::nullopt);
  PlanContext context{.node_memory = host_memory().total};
  const bool on_devices = read.inputs.topology.devices_per_node > 0;
  if (on_devices) context.device_memory = smallest_device();
  if (const std::optional<ComputeRates> given = rates_of(line)) {
    context.rates = *given;
    context.rates_given = true;
    plan = plan_run(settings, read.inputs, context.rates);
  } else if (!on_devices) {
    context.rates = measure_rates_of(plan, settings, read.inputs);
    plan = plan_run(settings, read.inputs, context.rates);
  }
  if (!settings.run.dir.empty()) context.free_disk = free_bytes_at(settings.run.dir);
  plan.notes.insert(plan.notes.begin(), std::make_move_iterator(read.notes.begin()),
                    std::make_move_iterator(read.notes.end()));
  if (model)
    context.modelled = modelled_step(plan, *model, line.step_model.string(), loaded.config.resolved, plan.notes);
  fmt::print("{}{}", line.json ? plan_json(plan, context) : plan_text(plan, settings, context), line.json ? "\n" : "");
  flush_output();
  for (const std::string& warning : plan_warnings(plan, context)) log::warn("{}", warning);
  return ExitCode::ok;
}

}  // namespace vbon::cli
