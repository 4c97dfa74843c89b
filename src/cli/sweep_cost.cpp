#include "cli/sweep_cost.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>

#include "cli/plan_inputs.hpp"
#include "cli/plan_rates.hpp"

namespace vbon::cli {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// The number behind -n, -np or --ntasks (also with =) in a launcher's words; 0: none.
int ranks_of_launch(const std::vector<std::string>& words) {
  const auto number = [](std::string_view text) {
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size() ? value : 0;
  };
  for (std::size_t i = 0; i < words.size(); ++i)
    for (const std::string_view flag : {"-n", "-np", "--ntasks"}) {
      if (words[i] == flag && i + 1 < words.size()) return number(words[i + 1]);
      if (words[i].starts_with(std::string(flag) + "="))
        return number(std::string_view(words[i]).substr(flag.size() + 1));
    }
  return 0;
}

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
  const int launched = ranks_of_launch(plan.grid.launch);
  std::optional<ComputeRates> rates = given;
  InputCache inputs;
  for (const PlannedRun& run : plan.runs) {
    const Settings& settings = run.loaded.settings();
    cost.ranks = launched > 0 ? launched : ranks_of_roles(settings);
    try {
      const Estimate found = estimate(settings, inputs.of(run.loaded, cost.ranks), rates);
      cost.run_s.push_back(found.run_s);
      cost.nodes = found.nodes;
      if (!settings.pool.path.empty()) cost.stages_s[run.stages] = found.pool_s;
    } catch (const UserError& e) {
      cost.run_s.push_back(kNaN);
      if (cost.why_not.empty()) cost.why_not = e.what();
    }
  }
  return cost;
}

}  // namespace vbon::cli
