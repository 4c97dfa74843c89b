#include "vbon/model/packed_weights.hpp"

#include <ATen/core/List.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>
#include <string_view>
#include <utility>

namespace vbon {
namespace {

template <class Signature>
std::optional<c10::TypedOperatorHandle<Signature>> operation(const char* name) {
  const auto handle = c10::Dispatcher::singleton().findSchema({name, ""});
  if (!handle) return std::nullopt;
  return handle->typed<Signature>();
}

struct Mkl {
  using Pack = at::Tensor(const at::Tensor&, std::int64_t);
  using Multiply = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                              std::int64_t);
  std::optional<c10::TypedOperatorHandle<Pack>> pack = operation<Pack>("mkl::_mkl_reorder_linear_weight");
  std::optional<c10::TypedOperatorHandle<Multiply>> multiply = operation<Multiply>("mkl::_mkl_linear");
};

const Mkl& mkl() {
  static const Mkl operations;
  return operations;
}

struct OneDnn {
  using Pack = at::Tensor(const at::Tensor&, std::optional<std::int64_t>);
  using Multiply = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, std::string_view,
                              c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);
  std::optional<c10::TypedOperatorHandle<Pack>> pack = operation<Pack>("mkldnn::_reorder_linear_weight");
  std::optional<c10::TypedOperatorHandle<Multiply>> multiply = operation<Multiply>("mkldnn::_linear_pointwise");
};

const OneDnn& onednn() {
  static const OneDnn operations;
  return operations;
}

}  // namespace

WeightLayout PackedWeights::fastest_layout() {
#if defined(__x86_64__)
  return __builtin_cpu_is("intel") ? WeightLayout::mkl : WeightLayout::onednn;
#else
  return WeightLayout::onednn;
#endif
}

bool PackedWeights::available(const at::Tensor& weight, WeightLayout layout) {
  // Of fewer numbers, copying and looking up costs more than the product gains.
  constexpr std::int64_t kFewest = 1 << 15;
  if (!weight.device().is_cpu() || weight.scalar_type() != at::kFloat || weight.numel() < kFewest) return false;
  return layout == WeightLayout::mkl ? mkl().pack && mkl().multiply : onednn().pack && onednn().multiply;
}

at::Tensor PackedWeights::multiply(const at::Tensor& x, const Linear& layer) {
  if (x.size(0) != rows_ || !available(layer.weight, layout_)) return linear(x, layer);
  const bool by_mkl = layout_ == WeightLayout::mkl;
  const auto [found, is_new] = entries_.try_emplace(layer.weight.const_data_ptr());
  Entry& entry = found->second;
  if (is_new) {
    const at::Tensor plain = layer.weight.detach().contiguous();
    entry = {layer.weight, by_mkl ? mkl().pack->call(plain, rows_) : onednn().pack->call(plain, rows_)};
  }
  std::optional<at::Tensor> bias;
  if (layer.bias.defined()) bias = layer.bias;
  if (by_mkl) return mkl().multiply->call(x.contiguous(), entry.packed, layer.weight, bias, rows_);
  return onednn().multiply->call(x.contiguous(), entry.packed, bias, "none", c10::List<std::optional<at::Scalar>>(),
                                 std::nullopt);
}

void PackedWeights::forget_trained() {
  std::erase_if(entries_, [](const auto& item) { return item.second.weight.requires_grad(); });
}

}  // namespace vbon
