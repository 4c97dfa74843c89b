#include "cli/plan_model.hpp"

#include <algorithm>
#include <cmath>

#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/cli/yaml_node.hpp"

namespace vbon::cli {
namespace {

void compare(const RunPlan& plan, const StepModel& model, const ResolvedConfig& config,
             std::vector<std::string>& notes) {
  for (const auto& [key, value] : model.measured_with)
    for (const ResolvedConfig::Entry& entry : config.entries())
      if (entry.path == key && unquoted(entry.text) != value)
        notes.push_back(fmt::format("the model of a step was measured with {} {}, and here it is {}", key, value,
                                    unquoted(entry.text)));
  const double gradient = 4 * static_cast<double>(plan.trained + plan.critic);
  if (std::abs(gradient - model.gradient_bytes) > 0.02 * gradient)
    notes.push_back(
        fmt::format("the model of a step was measured with a gradient of {:.4g} MB, and here it has {:.4g}: what a "
                    "sequence and an update cost is that of another language model",
                    model.gradient_bytes / 1e6, gradient / 1e6));
}

}  // namespace

StepModel read_step_model(const std::filesystem::path& file) {
  require(std::filesystem::is_regular_file(file), "there is no model of a step '{}'", file.string());
  return parse_step_model(read_file(file), file.string());
}

std::optional<ModelledStep> modelled_step(const RunPlan& plan, const StepModel& model, const std::string& file,
                                          const ResolvedConfig& config, std::vector<std::string>& notes) {
  const std::size_t ranks = plan.placement.ranks.size();
  const comm::RoleSet all =
      comm::RoleSet{}.with(comm::Role::rollout).with(comm::Role::scorer).with(comm::Role::learner);
  if (!std::all_of(plan.placement.ranks.begin(), plan.placement.ranks.end(),
                   [&](const comm::Assignment& rank) { return rank.roles == all; })) {
    notes.push_back(
        fmt::format("'{}' is of ranks that do everything (cluster.roles: all): it says nothing of ranks "
                    "with different roles",
                    file));
    return std::nullopt;
  }
  compare(plan, model, config, notes);
  const BatchPlan& b = plan.batch;
  const bool online = b.online_steps > 0;
  if (online && b.pool_updates > 0)
    notes.push_back("the model of a step leaves the updates on the pool out of the run");
  ModelledStep step{.file = file, .model = model};
  step.sequences = static_cast<double>(online ? b.sequences : b.pool_samples);
  step.updates = online ? static_cast<double>(b.updates) : 1;
  step.sent_bytes = static_cast<double>(plan.files.gradient_bytes) / static_cast<double>(ranks);
  step.seconds = step_times(model, static_cast<int>(ranks), step.sequences, step.updates, step.sent_bytes);
  step.run_seconds = static_cast<double>(online ? b.online_steps : b.pool_updates) * step.seconds.sum();
  step.beyond = static_cast<int>(ranks) > model.most_ranks;
  return step;
}

}  // namespace vbon::cli
