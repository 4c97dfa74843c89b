// The forward half of mixed objectives (jeffreys, bond, jbond): responses that a step imitates beside its policy
// gradient, E over Best-of-N of -log pi.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "vbon/objective/log_f.hpp"
#include "vbon/store/pool.hpp"
#include "vbon/store/rollouts.hpp"
#include "vbon/train/sequences.hpp"

namespace vbon {

struct Imitated {
  Sequence sequence;       // a view of what it was taken from
  std::size_t prompt = 0;  // which of the step's
  double weight = 0;       // sums to 1 over a prompt's
};

// The best of N among a prompt's pool samples, for the prompts in the pool's rows `pool_rows`: every sample with its
// probability to be it (samples 0), or that many draws, keyed by seed and step.
std::vector<Imitated> best_of_pool(const Pool& pool, std::span<const std::int64_t> pool_rows, double n,
                                   std::int64_t samples, std::int64_t seed, std::int64_t step);

// What the anchor drew for the prompts of a step, K samples each, one prompt's beside each other.
class AnchorSamples {
 public:
  // Kept by reference: prompts, and the batch with its rewards.
  AnchorSamples(const PromptRows& prompts, std::span<const std::int64_t> rows, const RolloutBatch& batch);

  std::span<const float> rewards(std::size_t prompt) const;  // [K], of one of the step's prompts
  // Of a new sample's reward, which joins them.
  Quantiles quantiles(std::size_t prompt, float reward) const;
  // Each with its probability to be the best of n among them.
  std::vector<Imitated> best(double n) const;

 private:
  const PromptRows& prompts_;
  std::vector<std::int64_t> rows_;
  const RolloutBatch& batch_;
  std::size_t samples_;
};

}  // namespace vbon
