// Shared by the two kinds of step.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "vbon/train/learner.hpp"

namespace vbon {

DataParallelOptions data_parallel_options(const Settings& settings);

// Sums gradients over learners, checks them, clips and steps. Returns the norm before clipping. `prompts` are named
// when it is not finite.
double reduce_and_step(LearnerState& state, double learning_rate, std::span<const std::int64_t> prompt_ids,
                       const std::string& where);

}  // namespace vbon
