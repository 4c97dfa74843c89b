// Shared by the two kinds of step.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "vbon/train/learner.hpp"

namespace vbon {

// This rank's contiguous share of n items.
struct Share {
  std::int64_t begin = 0, end = 0;
};
Share share_of(std::int64_t n, std::int64_t rank, std::int64_t size);

// Sums gradients over learners, checks them, clips and steps. Returns the norm before clipping. `prompts` are named
// when it is not finite.
double reduce_and_step(LearnerState& state, const LearnerTools& tools, double learning_rate,
                       std::span<const std::int64_t> prompt_ids, const std::string& where);

// Element-wise sums of a few doubles over learners.
void sum_over_learners(const LearnerTools& tools, std::span<double> values, const char* what);

}  // namespace vbon
