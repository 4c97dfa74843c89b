#include "train/prompt_groups.hpp"

#include <algorithm>

#include "vbon/base/rng.hpp"

namespace vbon {
namespace {

PoolLoss::Grouping grouping_of(std::int64_t batch, std::int64_t samples_per_prompt, const Pool& pool,
                               std::int64_t usable) {
  const std::int64_t samples = std::min(samples_per_prompt, usable);
  const std::int64_t an_epoch = pool.block.num_prompts() * (usable / samples);
  return {.samples = samples,
          .an_epoch = an_epoch,
          .an_update = std::min(std::max<std::int64_t>(1, batch / samples), an_epoch)};
}

}  // namespace

PromptGroupsLoss::PromptGroupsLoss(std::int64_t batch, std::int64_t samples_per_prompt, std::uint64_t seed,
                                   const Pool& pool, std::int64_t usable)
    : PoolLoss(grouping_of(batch, samples_per_prompt, pool, usable)), seed_(seed), prompts_(pool.block.num_prompts()),
      per_prompt_(pool.header.num_samples), usable_(usable) {}

std::vector<std::int64_t> PromptGroupsLoss::deal(std::int64_t epoch) const {
  const RandomStream stream(seed_, Purpose::data_order, 0, epoch);
  const std::int64_t samples = grouping().samples, a_prompt = usable_ / samples;
  std::vector<std::vector<std::int64_t>> of_prompt;
  for (std::int64_t row = 0; row < prompts_; ++row)
    of_prompt.push_back(permutation(stream, usable_, static_cast<std::int32_t>(1 + row)));
  std::vector<std::int64_t> dealt;
  for (const std::int64_t group : permutation(stream, grouping().an_epoch)) {
    const std::int64_t row = group / a_prompt;
    const auto first = of_prompt[static_cast<std::size_t>(row)].begin() + group % a_prompt * samples;
    std::transform(first, first + samples, std::back_inserter(dealt),
                   [&](std::int64_t m) { return row * per_prompt_ + m; });
  }
  return dealt;
}

}  // namespace vbon
