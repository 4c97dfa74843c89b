// Operations that LibTorch registers by name alone: those of the libraries that it was built with.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <cstdint>
#include <optional>

namespace vbon {

// What they multiply by: float32 on the CPU. Of fewer numbers, looking up what a library prepared, or preparing it,
// costs more than its product gains.
inline bool is_worth_a_library(const at::Tensor& weight) {
  constexpr std::int64_t kFewest = 1 << 15;
  return weight.device().is_cpu() && weight.scalar_type() == at::kFloat && weight.numel() >= kFewest;
}

// As these operations take a bias.
inline std::optional<at::Tensor> optional_tensor(const at::Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

template <class Signature>
using LibraryOperation = std::optional<c10::TypedOperatorHandle<Signature>>;

// Nothing where this LibTorch was built without it.
template <class Signature>
LibraryOperation<Signature> library_operation(const char* name) {
  const auto handle = c10::Dispatcher::singleton().findSchema({name, ""});
  if (!handle) return std::nullopt;
  return handle->template typed<Signature>();
}

}  // namespace vbon
