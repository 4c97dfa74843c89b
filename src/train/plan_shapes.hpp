// The sizes of models that plans are made of. Shapes: D hidden size, V vocabulary, F intermediate size.
#pragma once

#include <cstdint>

#include "vbon/train/run_plan.hpp"

namespace vbon {

struct ModelSizes {
  std::int64_t parameters = 0;  // tied ones once
  std::int64_t block = 0;       // parameters of one block
  std::int64_t trained = 0;     // of the trained copy
  std::int64_t critic = 0;      // of the critic, its own trained copy included
  std::int64_t trained_blocks = 0, frozen_blocks = 0;
  bool head_trained = false;
  std::int64_t block_products = 0;  // multiply-adds of one block's matrices, a row
  std::int64_t head_products = 0;   // of the last product, a row
  std::int64_t element_bytes = 4;   // of frozen weights, activations and caches
};
ModelSizes model_sizes(const Settings& settings, const LmSpec& spec);

// Numbers that one row leaves behind in one block for the backward pass.
std::int64_t saved_numbers(const LmSpec& spec);
// Numbers that one row needs while a block computes, beyond its input.
std::int64_t working_numbers(const LmSpec& spec);

std::int64_t encoder_parameters(const EncoderSpec& spec);
// What a text of `tokens` tokens is padded to before it is scored.
std::int64_t padded_tokens(const RewardConfig& config, std::int64_t max_positions, std::int64_t tokens);

bool evaluates(const Settings& settings);
// Of TrunkRows in the pool of prompts.train, at most; 0 where they are not kept.
std::int64_t kept_trunk_bytes(const Settings& settings, const PlanInputs& inputs);

BatchPlan plan_batch(const Settings& settings, const PlanInputs& inputs, const comm::Placement& placement);
MemoryPlan plan_memory(const Settings& settings, const PlanInputs& inputs, const comm::Placement& placement,
                       const BatchPlan& batch);
FilePlan plan_files(const Settings& settings, const PlanInputs& inputs, const comm::Placement& placement,
                    const BatchPlan& batch);
TimePlan plan_time(const Settings& settings, const PlanInputs& inputs, const comm::Placement& placement,
                   const BatchPlan& batch, const std::optional<ComputeRates>& rates);

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace vbon
