// The pieces of a transformer block as functions over plain records of tensors. Differentiable where their inputs are.
//
// Shapes: n rows (tokens), D hidden size, H heads, K key-value heads, d head dimension, F intermediate size.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "vbon/model/lm_spec.hpp"

namespace vbon {

struct Linear {
  at::Tensor weight;  // [out, in], as Hugging Face stores it
  at::Tensor bias;    // [out], undefined: none
};

struct Norm {
  at::Tensor weight;  // [D]
  at::Tensor bias;    // [D], undefined: RMS norm
};

at::Tensor linear(const at::Tensor& x, const Linear& layer);  // [n, in] -> [n, out]
// x [n, ...], rows int64 [m] -> [m, ...]. The gradient of a row taken several times is added up in the order of `rows`
// on every device, so that it repeats bit for bit (index_select's does not on CUDA).
at::Tensor gather_rows(const at::Tensor& x, const at::Tensor& rows);
at::Tensor normalise(const at::Tensor& x, const Norm& norm, NormKind kind, double eps);  // [n, D] -> [n, D]
at::Tensor activate(const at::Tensor& x, Activation activation);
// act(gate) * up of a fused [n, 2F] product, gate first -> [n, F]
at::Tensor gated(const at::Tensor& gate_up, Activation activation);

// Rotary positions: cos and sin of every position, [max_positions, dims/2], float32.
struct RopeTable {
  at::Tensor cos, sin;
  std::int64_t dims = 0;  // 0: none
};

RopeTable make_rope_table(const RopeSpec& spec, std::int64_t max_positions, at::Device device);
// Rows of the tables for the given positions [n] -> cos and sin [n, 1, dims/2] in `dtype`.
struct RopeRows {
  at::Tensor cos, sin;
};
RopeRows rope_rows(const RopeTable& table, const at::Tensor& positions, at::ScalarType dtype);
// Rotates the first `dims` of each head by halves (the layout of Hugging Face): [n, heads, d] -> [n, heads, d].
at::Tensor apply_rope(const at::Tensor& x, const RopeRows& rows, std::int64_t dims);

}  // namespace vbon
