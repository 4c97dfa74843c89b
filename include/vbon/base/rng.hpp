// Keyed random draws: every draw is a pure function of what it is for, so results do not depend on the number of
// ranks, on the order of work or on restarts.
//
// Philox4x32-10 (Salmon et al., 2011). The 64-bit key mixes (seed, purpose, prompt set, step); the 128-bit counter is
// (prompt id, sample, position). Order and values of Purpose are part of the file format: append, never renumber.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace vbon {

enum class Purpose : std::uint32_t {
  pool = 1,          // samples of a pool
  rollout = 2,       // samples of an online step
  evaluation = 3,    // samples of vbon eval
  anchor = 4,        // samples of an anchor policy
  sample = 5,        // vbon sample
  minibatch = 6,     // permutation of a batch
  prompt_order = 7,  // permutation of the prompts of an epoch
  data_order = 8,    // permutation of texts (sft, reward)
  initialise = 9,    // new parameters (heads)
  bootstrap = 10,    // resampling for confidence intervals
  subset = 11,       // subsets of a pool
  pair = 12,         // preference pairs
};

// One Philox4x32-10 block: four independent 32-bit words.
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

// A family of draws with one key; cheap to copy.
class RandomStream {
 public:
  RandomStream(std::uint64_t seed, Purpose purpose, std::uint64_t prompt_set = 0, std::int64_t step = 0);

  // Four words for (prompt id, sample, position).
  std::array<std::uint32_t, 4> words(std::int64_t prompt_id, std::int32_t sample, std::int32_t position) const;
  // In [0, 1) with 53 bits.
  double uniform(std::int64_t prompt_id, std::int32_t sample = 0, std::int32_t position = 0) const;
  // Standard normal (Box-Muller on one block).
  double normal(std::int64_t prompt_id, std::int32_t sample = 0, std::int32_t position = 0) const;
  // In [0, bound), unbiased to 2^-53; bound >= 1.
  std::int64_t below(std::int64_t bound, std::int64_t prompt_id, std::int32_t sample = 0,
                     std::int32_t position = 0) const;

 private:
  std::array<std::uint32_t, 2> key_;
};

// 0 … n-1 in a random order (Fisher-Yates; place i draws with prompt id i, sample `sample`).
std::vector<std::int64_t> permutation(const RandomStream& stream, std::int64_t n, std::int32_t sample = 0);

}  // namespace vbon
