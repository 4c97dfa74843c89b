#include "vbon/model/packed_weights.hpp"

namespace vbon {

bool PackedWeights::available(const at::Tensor& weight, CpuLibrary library) {
  // Of fewer numbers, copying and looking up costs more than the product gains.
  constexpr std::int64_t kFewest = 1 << 15;
  return weight.device().is_cpu() && weight.scalar_type() == at::kFloat && weight.numel() >= kFewest &&
         can_pack(library);
}

at::Tensor PackedWeights::multiply(const at::Tensor& x, const Linear& layer) {
  if (x.size(0) != rows_ || !available(layer.weight, library_)) return linear(x, layer);
  const auto [found, is_new] = entries_.try_emplace(layer.weight.const_data_ptr());
  Entry& entry = found->second;
  if (is_new) entry = {layer.weight, packed_weight(library_, layer.weight.detach().contiguous(), rows_)};
  return packed_product(library_, x, entry.packed, layer.weight, layer.bias);
}

void PackedWeights::forget_trained() {
  std::erase_if(entries_, [](const auto& item) { return item.second.weight.requires_grad(); });
}

}  // namespace vbon
