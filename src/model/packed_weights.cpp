#include "vbon/model/packed_weights.hpp"

#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>
#include <utility>

namespace vbon {
namespace {

using Pack = at::Tensor(const at::Tensor&, std::int64_t);
using Product = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                           std::int64_t);

template <class Signature>
std::optional<c10::TypedOperatorHandle<Signature>> operation(const char* name) {
  const auto handle = c10::Dispatcher::singleton().findSchema({name, ""});
  if (!handle) return std::nullopt;
  return handle->typed<Signature>();
}

const std::optional<c10::TypedOperatorHandle<Pack>>& pack() {
  static const auto handle = operation<Pack>("mkl::_mkl_reorder_linear_weight");
  return handle;
}

const std::optional<c10::TypedOperatorHandle<Product>>& product() {
  static const auto handle = operation<Product>("mkl::_mkl_linear");
  return handle;
}

}  // namespace

bool PackedWeights::available(const at::Tensor& weight) {
  return weight.device().is_cpu() && weight.scalar_type() == at::kFloat && pack() && product();
}

at::Tensor PackedWeights::multiply(const at::Tensor& x, const Linear& layer) {
  if (x.size(0) != rows_ || !available(layer.weight)) return linear(x, layer);
  const auto [found, is_new] = entries_.try_emplace(layer.weight.const_data_ptr());
  Entry& entry = found->second;
  if (is_new) entry = {layer.weight, pack()->call(layer.weight.detach().contiguous(), rows_)};
  std::optional<at::Tensor> bias;
  if (layer.bias.defined()) bias = layer.bias;
  return product()->call(x.contiguous(), entry.packed, layer.weight, bias, rows_);
}

void PackedWeights::forget_trained() {
  std::erase_if(entries_, [](const auto& item) { return item.second.weight.requires_grad(); });
}

}  // namespace vbon
