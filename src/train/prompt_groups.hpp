// A loss whose groups are samples of one prompt, of which each epoch deals new ones.
#pragma once

#include <cstdint>
#include <vector>

#include "vbon/store/pool.hpp"
#include "vbon/train/pool_step.hpp"

namespace vbon {

class PromptGroupsLoss : public PoolLoss {
 public:
  // An update has `batch` samples, `samples_per_prompt` of them to each prompt (all that a smaller pool has), of the
  // first `usable` that the pool has of it.
  PromptGroupsLoss(std::int64_t batch, std::int64_t samples_per_prompt, std::uint64_t seed, const Pool& pool,
                   std::int64_t usable);

 protected:
  // Each epoch deals a prompt's samples into groups anew, and the groups into updates.
  std::vector<std::int64_t> deal(std::int64_t epoch) const override;

 private:
  std::uint64_t seed_;
  std::int64_t prompts_, per_prompt_, usable_;
};

}  // namespace vbon
