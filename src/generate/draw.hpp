// One token from each row of logits [n, V] float32, by inverse CDF of the (possibly truncated) tempered softmax.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "vbon/generate/sampling.hpp"

namespace vbon {

struct Drawn {
  std::int32_t token = 0;
  double logp = 0;  // of the distribution drawn from: renormalised where top_k or top_p truncate it
};

Drawn draw(const at::Tensor& logits, std::int64_t row, const SamplingConfig& sampling, double uniform);
// Of the first uniforms.size() rows.
std::vector<Drawn> draw_rows(const at::Tensor& logits, const SamplingConfig& sampling,
                             const std::vector<double>& uniforms);

}  // namespace vbon
