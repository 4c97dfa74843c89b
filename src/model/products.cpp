#include "vbon/model/products.hpp"

#include <ATen/core/List.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>

#include <optional>
#include <string_view>

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

std::optional<at::Tensor> optional(const at::Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

// `weight`: as it is or packed.
at::Tensor multiply_by_onednn(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return onednn().multiply->call(x.contiguous(), weight, optional(bias), "none", c10::List<std::optional<at::Scalar>>(),
                                 std::nullopt);
}

bool wants_gradient(const at::Tensor& tensor) { return tensor.defined() && tensor.requires_grad(); }

}  // namespace

CpuLibrary fastest_cpu_library() {
#if defined(__x86_64__)
  return __builtin_cpu_is("intel") ? CpuLibrary::mkl : CpuLibrary::onednn;
#else
  return CpuLibrary::onednn;
#endif
}

at::Tensor product(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  // Of fewer numbers, looking up what oneDNN prepared for the shape costs more than is gained.
  constexpr std::int64_t kFewest = 1 << 15;
  static const bool by_onednn = fastest_cpu_library() == CpuLibrary::onednn && can_pack(CpuLibrary::onednn);
  const bool plain = x.device().is_cpu() && x.scalar_type() == at::kFloat && weight.numel() >= kFewest &&
                     x.numel() > 0 && weight.is_contiguous();
  const bool differentiated =
      at::GradMode::is_enabled() && (wants_gradient(x) || wants_gradient(weight) || wants_gradient(bias));
  if (!by_onednn || !plain || differentiated) return at::linear(x, weight, bias);
  return multiply_by_onednn(x, weight, bias);
}

bool can_pack(CpuLibrary library) {
  return library == CpuLibrary::mkl ? mkl().pack && mkl().multiply : onednn().pack && onednn().multiply;
}

at::Tensor packed_weight(CpuLibrary library, const at::Tensor& weight, std::int64_t rows) {
  return library == CpuLibrary::mkl ? mkl().pack->call(weight, rows) : onednn().pack->call(weight, rows);
}

at::Tensor packed_product(CpuLibrary library, const at::Tensor& x, const at::Tensor& packed, const at::Tensor& weight,
                          const at::Tensor& bias) {
  if (library == CpuLibrary::onednn) return multiply_by_onednn(x, packed, bias);
  return mkl().multiply->call(x.contiguous(), packed, weight, optional(bias), x.size(0));
}

}  // namespace vbon
