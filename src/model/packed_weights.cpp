#include "vbon/model/packed_weights.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "model/library_operation.hpp"
#include "vbon/base/error.hpp"
#include "vbon/model/cpu_kernels.hpp"

namespace vbon {
namespace {

constexpr std::int64_t kMostRows = 512;  // from there on reading the weights is nothing beside multiplying

at::Tensor pack(const at::Tensor& weight) {  // [out, in] -> [panels, in, kPanel]
  const std::int64_t out = weight.size(0), in = weight.size(1), panels = kernels::in_panels(out);
  at::Tensor packed = at::empty({panels, in, kernels::kPanel}, weight.options().requires_grad(false));
  const float* from = weight.const_data_ptr<float>();
  float* to = packed.mutable_data_ptr<float>();
  at::parallel_for(0, panels, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p)
      kernels::pack_panel(from + p * kernels::kPanel * in, std::min(kernels::kPanel, out - p * kernels::kPanel), in,
                          to + p * in * kernels::kPanel);
  });
  return packed;
}

at::Tensor pack_bias(const at::Tensor& bias) {
  if (!bias.defined()) return {};
  at::Tensor packed =
      at::zeros({kernels::in_panels(bias.size(0)) * kernels::kPanel}, bias.options().requires_grad(false));
  packed.narrow(0, 0, bias.size(0)).copy_(bias);
  return packed;
}

// x [n, in], rows dense -> [n, out].
at::Tensor multiply_by_panels(const at::Tensor& x, const at::Tensor& panels, const at::Tensor& bias, std::int64_t out) {
  const std::int64_t n = x.size(0), in = x.size(1), x_stride = x.stride(0), count = panels.size(0);
  at::Tensor result = at::empty({n, out}, x.options());
  const float *from = x.const_data_ptr<float>(), *weights = panels.const_data_ptr<float>(),
              *added = bias.defined() ? bias.const_data_ptr<float>() : nullptr;
  float* to = result.mutable_data_ptr<float>();
  at::parallel_for(0, count, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> partial;  // [n, kPanel] of a last panel that is wider than what is left of a row
    for (std::int64_t p = begin; p < end; ++p) {
      const std::int64_t column = p * kernels::kPanel, width = std::min(kernels::kPanel, out - column);
      const float *panel = weights + p * in * kernels::kPanel,
                  *next = p + 1 < end ? panel + in * kernels::kPanel : panel;
      const float* bias_here = added != nullptr ? added + column : nullptr;
      if (width == kernels::kPanel) {
        kernels::panel_product(from, n, x_stride, in, panel, next, bias_here, to + column, out);
        continue;
      }
      partial.resize(static_cast<std::size_t>(n * kernels::kPanel));
      kernels::panel_product(from, n, x_stride, in, panel, next, bias_here, partial.data(), kernels::kPanel);
      for (std::int64_t i = 0; i < n; ++i)
        std::copy_n(partial.data() + i * kernels::kPanel, width, to + i * out + column);
    }
  });
  return result;
}

}  // namespace

bool PackedWeights::pays() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("x86-64-v4");
#else
  return false;
#endif
}

at::Tensor PackedWeights::multiply(const at::Tensor& x, const Linear& layer) {
  check(x.dim() == 2, "packed weights multiply rows");
  if (x.size(0) > kMostRows || x.scalar_type() != at::kFloat || !is_worth_a_library(layer.weight))
    return linear(x, layer);
  const auto [found, is_new] = entries_.try_emplace(layer.weight.const_data_ptr());
  Entry& entry = found->second;
  if (is_new)
    entry = {layer.weight, pack(layer.weight.detach().contiguous()),
             pack_bias(layer.bias.defined() ? layer.bias.detach() : layer.bias)};
  const at::Tensor rows = x.stride(1) == 1 ? x : x.contiguous();
  return multiply_by_panels(rows, entry.panels, entry.bias, layer.weight.size(0));
}

void PackedWeights::forget_trained() {
  std::erase_if(entries_, [](const auto& item) { return item.second.weight.requires_grad(); });
}

}  // namespace vbon
