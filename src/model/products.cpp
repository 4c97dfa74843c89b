#include "vbon/model/products.hpp"

#include <ATen/core/List.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>

#include <optional>
#include <string_view>

#include "model/library_operation.hpp"

namespace vbon {
namespace {

using OneDnnLinear = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                                std::string_view, c10::List<std::optional<at::Scalar>>,
                                std::optional<std::string_view>);

const LibraryOperation<OneDnnLinear>& onednn_linear() {
  static const auto operation = library_operation<OneDnnLinear>("mkldnn::_linear_pointwise");
  return operation;
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
  static const bool by_onednn = fastest_cpu_library() == CpuLibrary::onednn && onednn_linear();
  const bool plain = is_worth_a_library(weight) && x.device().is_cpu() && x.scalar_type() == at::kFloat &&
                     x.numel() > 0 && weight.is_contiguous();
  const bool differentiated =
      at::GradMode::is_enabled() && (wants_gradient(x) || wants_gradient(weight) || wants_gradient(bias));
  if (!by_onednn || !plain || differentiated) return at::linear(x, weight, bias);
  return onednn_linear()->call(x.contiguous(), weight, optional_tensor(bias), "none",
                               c10::List<std::optional<at::Scalar>>(), std::nullopt);
}

}  // namespace vbon
