#include "cli/sweep_cost.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "cli/plan_inputs.hpp"
#include "cli/plan_rates.hpp"

namespace vbon::cli {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

struct Estimate {
  double run_s = kNaN, pool_s = kNaN;
  int nodes = 1;
};

// What read_plan_inputs reads is the same for most runs of a sweep: read once for each set of these sections.
class InputCache {
 public:
  const ReadPlanInputs& of(const Loaded& loaded, int ranks) {
    std::string key = std::to_string(ranks);
    for (const ResolvedConfig::Entry& entry : loaded.config.resolved.entries())
      for (const std::string_view section : {"model", "prompts", "reward", "evaluator", "rewards", "cluster"})
        if (lies_in(entry.path, section)) key += "\n" + entry.path + " " + entry.text;
    const auto found = read_.find(key);
    return found != read_.end() ? found->second
                                : read_.emplace(key, read_plan_inputs(loaded.settings(), ranks)).first->second;
  }

 private:
  std::map<std::string, ReadPlanInputs> read_;
};

Estimate estimate(const Settings& settings, const ReadPlanInputs& read, std::optional<ComputeRates>& rates) {
  RunPlan plan = plan_run(settings, read.inputs, rates);
  const std::vector<int>& nodes = read.inputs.topology.node_of_rank;
  Estimate found{.nodes = nodes.empty() ? 1 : nodes.back() + 1};
  if (!rates) {
    require(read.inputs.topology.devices_per_node == 0,
            "it computes on devices: give what a rank sustains, --tflops and --gbps");
    rates = measure_rates_of(plan, settings, read.inputs);
    plan = plan_run(settings, read.inputs, rates);
  }
  found.run_s =
      plan.time.run_seconds + plan.time.evaluation.seconds * static_cast<double>(1 + settings.evaluations.size());
  found.pool_s = plan.time.pool.seconds;
  return found;
}

}  // namespace

SweepCost sweep_cost(const SweepPlan& plan, const std::optional<ComputeRates>& given) {
  SweepCost cost;
  cost.stages_s.assign(plan.stages.size(), 0.0);
  cost.stage_nodes.assign(plan.stages.size(), 1);
  const int launched = ranks_of_launch(plan.grid.launch);
  std::optional<ComputeRates> rates = given;
  InputCache inputs;
  for (const PlannedRun& run : plan.runs) {
    const Settings& settings = run.loaded.settings();
    cost.ranks.push_back(run.ranks > 0 ? run.ranks : launched > 0 ? launched : ranks_of_roles(settings));
    cost.nodes.push_back(1);
    try {
      const Estimate found = estimate(settings, inputs.of(run.loaded, cost.ranks.back()), rates);
      cost.run_s.push_back(found.run_s);
      cost.nodes.back() = found.nodes;
      if (settings.pool.path.empty() || run.ranks != plan.stages[run.stages].ranks) continue;
      cost.stages_s[run.stages] = found.pool_s;
      cost.stage_nodes[run.stages] = found.nodes;
    } catch (const UserError& e) {
      cost.run_s.push_back(kNaN);
      if (cost.why_not.empty()) cost.why_not = e.what();
    }
  }
  return cost;
}

}  // namespace vbon::cli
