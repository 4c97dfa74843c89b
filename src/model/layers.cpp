#include "vbon/model/layers.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/silu.h>

#include <cmath>
#include <numbers>

#include "vbon/base/error.hpp"

namespace vbon {

at::Tensor linear(const at::Tensor& x, const Linear& layer) { return at::linear(x, layer.weight, layer.bias); }

at::Tensor normalise(const at::Tensor& x, const Norm& norm, NormKind kind, double eps) {
  if (kind == NormKind::layer) return at::layer_norm(x, {x.size(-1)}, norm.weight, norm.bias, eps);
  // In float32 whatever the input, as the reference implementations do.
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor scale = at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps);
  return norm.weight * (wide * scale).to(x.scalar_type());
}

at::Tensor activate(const at::Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::silu: return at::silu(x);
    case Activation::gelu: return at::gelu(x, "none");
    case Activation::gelu_tanh: return at::gelu(x, "tanh");
    case Activation::relu: return at::relu(x);
  }
  throw InternalError("unknown activation");
}

at::Tensor gated(const at::Tensor& gate_up, Activation activation) {
  const std::int64_t half = gate_up.size(-1) / 2;
  return activate(gate_up.narrow(-1, 0, half), activation) * gate_up.narrow(-1, half, half);
}

RopeTable make_rope_table(const RopeSpec& spec, std::int64_t max_positions, at::Device device) {
  RopeTable table;
  table.dims = spec.dims;
  if (spec.dims == 0) return table;
  const std::int64_t half = spec.dims / 2;
  table.cos = at::empty({max_positions, half}, at::kFloat);
  table.sin = at::empty({max_positions, half}, at::kFloat);
  float* cos = table.cos.mutable_data_ptr<float>();
  float* sin = table.sin.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < half; ++i) {
    double frequency = std::pow(spec.theta, -2.0 * static_cast<double>(i) / static_cast<double>(spec.dims));
    if (spec.scaling == RopeScaling::linear) frequency /= spec.factor;
    if (spec.scaling == RopeScaling::llama3) {
      const double length = static_cast<double>(spec.original_max_positions);
      const double wave = 2.0 * std::numbers::pi / frequency;
      const double smooth =
          (length / wave - spec.low_freq_factor) / (spec.high_freq_factor - spec.low_freq_factor);
      if (wave > length / spec.low_freq_factor) frequency /= spec.factor;
      else if (wave >= length / spec.high_freq_factor)
        frequency = (1.0 - smooth) * frequency / spec.factor + smooth * frequency;
    }
    // The reference computes frequency and angle in float32; doing the same keeps long positions equal.
    const float frequency32 = static_cast<float>(frequency);
    for (std::int64_t p = 0; p < max_positions; ++p) {
      const float angle = static_cast<float>(p) * frequency32;
      cos[p * half + i] = std::cos(angle);
      sin[p * half + i] = std::sin(angle);
    }
  }
  table.cos = table.cos.to(device);
  table.sin = table.sin.to(device);
  return table;
}

RopeRows rope_rows(const RopeTable& table, const at::Tensor& positions, at::ScalarType dtype) {
  if (table.dims == 0) return {};
  return {table.cos.index_select(0, positions).unsqueeze(1).to(dtype),
          table.sin.index_select(0, positions).unsqueeze(1).to(dtype)};
}

at::Tensor apply_rope(const at::Tensor& x, const RopeRows& rows, std::int64_t dims) {
  if (dims == 0) return x;
  const std::int64_t half = dims / 2;
  const at::Tensor first = x.narrow(-1, 0, half);
  const at::Tensor second = x.narrow(-1, half, half);
  const at::Tensor turned_first = first * rows.cos - second * rows.sin;
  const at::Tensor turned_second = second * rows.cos + first * rows.sin;
  if (dims == x.size(-1)) return at::cat({turned_first, turned_second}, -1);
  return at::cat({turned_first, turned_second, x.narrow(-1, dims, x.size(-1) - dims)}, -1);
}

}  // namespace vbon
