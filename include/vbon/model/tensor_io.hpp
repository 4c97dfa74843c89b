// Between safetensors' views and tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "vbon/store/safetensors.hpp"

namespace vbon {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

// A copy in CPU memory, converted to `dtype`. UserError unless the view holds f32, f16, bf16 or f64.
at::Tensor to_tensor(const TensorView& view, at::ScalarType dtype);

// Tensor of that name; UserError naming the file if it is missing or has another shape.
at::Tensor load_tensor(const SafeTensors& file, const std::string& name, const std::vector<std::int64_t>& shape,
                       at::ScalarType dtype);

// [rows, columns] float on the CPU, N(0, deviation) by keyed draws: a new head.
at::Tensor drawn_head(std::int64_t rows, std::int64_t columns, double deviation, std::uint64_t seed);

// float32 or bfloat16 tensors, by the commit protocol.
void write_tensors(const std::filesystem::path& path, const NamedTensors& tensors);

}  // namespace vbon
