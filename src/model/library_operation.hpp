// Operations that LibTorch registers by name alone: those of the libraries that it was built with.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>

namespace vbon {

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
