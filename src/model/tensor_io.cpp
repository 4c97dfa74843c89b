#include "vbon/model/tensor_io.hpp"

#include <ATen/ops/empty.h>

#include <cstring>

#include "vbon/base/error.hpp"
#include "vbon/base/rng.hpp"

namespace vbon {
namespace {

at::ScalarType scalar_type(const TensorView& view) {
  switch (view.dtype) {
    case DType::f32: return at::kFloat;
    case DType::f16: return at::kHalf;
    case DType::bf16: return at::kBFloat16;
    case DType::f64: return at::kDouble;
    default: break;
  }
  throw UserError("tensor '{}' has dtype {}; weights must be F32, BF16, F16 or F64", view.name, name_of(view.dtype));
}

std::string shape_text(const std::vector<std::int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

}  // namespace

at::Tensor to_tensor(const TensorView& view, at::ScalarType dtype) {
  at::Tensor tensor = at::empty(view.shape, scalar_type(view));
  if (!view.bytes.empty()) std::memcpy(tensor.mutable_data_ptr(), view.bytes.data(), view.bytes.size());
  return tensor.to(dtype);
}

at::Tensor load_tensor(const SafeTensors& file, const std::string& name, const std::vector<std::int64_t>& shape,
                       at::ScalarType dtype) {
  const TensorView& view = file.at(name);
  require(view.shape == shape, "'{}': tensor '{}' has shape {}, but config.json asks for {}", file.path().string(),
          name, shape_text(view.shape), shape_text(shape));
  return to_tensor(view, dtype);
}

at::Tensor drawn_head(std::int64_t rows, std::int64_t columns, double deviation, std::uint64_t seed) {
  at::Tensor drawn = at::empty({rows, columns}, at::kFloat);
  const RandomStream stream(seed, Purpose::initialise);
  float* const values = drawn.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < drawn.numel(); ++i) values[i] = static_cast<float>(deviation * stream.normal(i));
  return drawn;
}

void write_tensors(const std::filesystem::path& path, const NamedTensors& tensors) {
  std::vector<at::Tensor> kept;  // views point into these
  std::vector<TensorView> views;
  for (const auto& [name, tensor] : tensors) {
    kept.push_back(tensor.detach().cpu().contiguous());
    const at::Tensor& t = kept.back();
    check(t.scalar_type() == at::kFloat || t.scalar_type() == at::kBFloat16, "write_tensors: float32 or bfloat16");
    views.push_back({name,
                     t.scalar_type() == at::kFloat ? DType::f32 : DType::bf16,
                     t.sizes().vec(),
                     {static_cast<const std::byte*>(t.const_data_ptr()), t.nbytes()}});
  }
  write_safetensors(path, views);
}

}  // namespace vbon
