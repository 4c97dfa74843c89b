#include "cli/plan_rates.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>

#include "cli/host.hpp"
#include "vbon/base/error.hpp"
#include "vbon/train/machine.hpp"

namespace vbon::cli {

int ranks_of_roles(const Settings& settings) {
  const comm::Roles& roles = settings.cluster.roles;
  if (roles.kind != comm::Roles::Kind::numbers) return 1;
  const std::int64_t ranks = std::int64_t{roles.rollout} + roles.scorer + roles.learner;
  require(ranks <= std::numeric_limits<int>::max(), "cluster.roles: {} ranks are too many", ranks);
  return static_cast<int>(ranks);
}

std::optional<ComputeRates> rates_of(const CommandLine& line) {
  if (!line.tflops && !line.gbps) return std::nullopt;
  require(line.tflops && line.gbps && *line.tflops > 0 && *line.gbps > 0,
          "--tflops and --gbps are given together, both positive: what a rank sustains");
  return ComputeRates{
      .decode_flops = *line.tflops * 1e12, .learn_flops = *line.tflops * 1e12, .bytes = *line.gbps * 1e9};
}

ComputeRates measure_rates_of(const RunPlan& plan, const Settings& settings, const PlanInputs& inputs) {
  const auto learned = static_cast<std::int64_t>(inputs.prompt_tokens) + settings.sampling.max_new_tokens;
  return measure_rates(inputs.model,
                       std::min(settings.sampling.slots, std::max<std::int64_t>(1, plan.batch.chunk_sequences)),
                       plan.batch.micro_batch_sequences * learned, std::min(plan.threads, host_cores().allowed));
}

}  // namespace vbon::cli
