#include "vbon/model/packed_weights.hpp"

#include <optional>

#include "model/library_operation.hpp"
#include "vbon/model/products.hpp"

namespace vbon {
namespace {

struct Mkl {
  using Pack = at::Tensor(const at::Tensor&, std::int64_t);
  using Multiply = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                              std::int64_t);
  LibraryOperation<Pack> pack = library_operation<Pack>("mkl::_mkl_reorder_linear_weight");
  LibraryOperation<Multiply> multiply = library_operation<Multiply>("mkl::_mkl_linear");
};

const Mkl& mkl() {
  static const Mkl operations;
  return operations;
}

}  // namespace

bool PackedWeights::pays() { return fastest_cpu_library() == CpuLibrary::mkl; }

bool PackedWeights::available(const at::Tensor& weight) {
  return is_worth_a_library(weight) && mkl().pack && mkl().multiply;
}

at::Tensor PackedWeights::multiply(const at::Tensor& x, const Linear& layer) {
  if (x.size(0) != rows_ || !available(layer.weight)) return linear(x, layer);
  const auto [found, is_new] = entries_.try_emplace(layer.weight.const_data_ptr());
  Entry& entry = found->second;
  if (is_new) entry = {layer.weight, mkl().pack->call(layer.weight.detach().contiguous(), rows_)};
  return mkl().multiply->call(x.contiguous(), entry.packed, layer.weight, optional_tensor(layer.bias), rows_);
}

void PackedWeights::forget_trained() {
  std::erase_if(entries_, [](const auto& item) { return item.second.weight.requires_grad(); });
}

}  // namespace vbon
