#include "vbon/model/layers.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/silu.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "vbon/base/error.hpp"
#include "vbon/model/cpu_kernels.hpp"
#include "vbon/model/products.hpp"

namespace vbon {
namespace {

// Without gradients, float32 rows in CPU memory take one pass of our own instead of four to seven of ATen's: between
// the products of a decoding step there are few numbers, and each pass costs a start and leaves the other cores idle.
bool by_loops(const at::Tensor& x) {
  return !at::GradMode::is_enabled() && x.device().is_cpu() && x.scalar_type() == at::kFloat && x.dim() >= 2 &&
         x.stride(-1) == 1;
}

// Calls work(row) for each of n rows of about `width` numbers, on several threads where that pays.
template <class Work>
void for_rows(std::int64_t n, std::int64_t width, Work&& work) {
  constexpr std::int64_t kNumbersAThread = 8192;
  at::parallel_for(0, n, std::max<std::int64_t>(1, kNumbersAThread / std::max<std::int64_t>(width, 1)),
                   [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t i = begin; i < end; ++i) work(i);
                   });
}

at::Tensor rms_norm_by_loops(const at::Tensor& x, const at::Tensor& weight, double eps) {  // [n, D]
  const std::int64_t n = x.size(0), width = x.size(1), stride = x.stride(0);
  at::Tensor out = at::empty({n, width}, x.options());
  const float *from = x.const_data_ptr<float>(), *scale = weight.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  for_rows(n, width, [&](std::int64_t i) {
    kernels::rms_norm_row(from + i * stride, scale, width, static_cast<float>(eps), to + i * width);
  });
  return out;
}

at::Tensor silu_gate_by_loops(const at::Tensor& gate_up) {  // [n, 2F] -> [n, F]
  const std::int64_t n = gate_up.size(0), width = gate_up.size(1) / 2, stride = gate_up.stride(0);
  at::Tensor out = at::empty({n, width}, gate_up.options());
  const float* from = gate_up.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  for_rows(n, 4 * width, [&](std::int64_t i) {
    kernels::silu_gate_row(from + i * stride, from + i * stride + width, width, to + i * width);
  });
  return out;
}

at::Tensor rope_by_loops(const at::Tensor& x, const RopeRows& rows, std::int64_t dims) {  // [n, heads, d]
  const std::int64_t n = x.size(0), heads = x.size(1), d = x.size(2), stride = x.stride(0), half = dims / 2;
  at::Tensor out = at::empty({n, heads, d}, x.options());
  const float *from = x.const_data_ptr<float>(), *cos = rows.cos.const_data_ptr<float>(),
              *sin = rows.sin.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  for_rows(n, 2 * heads * d, [&](std::int64_t i) {
    kernels::rope_row(from + i * stride, cos + i * half, sin + i * half, heads, d, half, to + i * heads * d);
  });
  return out;
}

}  // namespace

at::Tensor linear(const at::Tensor& x, const Linear& layer) { return product(x, layer.weight, layer.bias); }

at::Tensor gather_rows(const at::Tensor& x, const at::Tensor& rows) {
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.front() = rows.size(0);
  return at::embedding(x.reshape({x.size(0), -1}), rows).view(shape);
}

at::Tensor normalise(const at::Tensor& x, const Norm& norm, NormKind kind, double eps) {
  if (kind == NormKind::layer) return at::layer_norm(x, {x.size(-1)}, norm.weight, norm.bias, eps);
  if (x.dim() == 2 && by_loops(x) && norm.weight.is_contiguous()) return rms_norm_by_loops(x, norm.weight, eps);
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
  if (activation == Activation::silu && gate_up.dim() == 2 && by_loops(gate_up)) return silu_gate_by_loops(gate_up);
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
      const double smooth = (length / wave - spec.low_freq_factor) / (spec.high_freq_factor - spec.low_freq_factor);
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
  if (x.dim() == 3 && by_loops(x) && x.stride(1) == x.size(2) && rows.cos.is_contiguous())
    return rope_by_loops(x, rows, dims);
  const std::int64_t half = dims / 2;
  const at::Tensor first = x.narrow(-1, 0, half);
  const at::Tensor second = x.narrow(-1, half, half);
  const at::Tensor turned_first = first * rows.cos - second * rows.sin;
  const at::Tensor turned_second = second * rows.cos + first * rows.sin;
  if (dims == x.size(-1)) return at::cat({turned_first, turned_second}, -1);
  return at::cat({turned_first, turned_second, x.narrow(-1, dims, x.size(-1) - dims)}, -1);
}

}  // namespace vbon
