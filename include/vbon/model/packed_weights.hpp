// Weights in a layout that a library's product reads fastest at one number of rows: what a sampler multiplies by at
// every step. On Intel CPUs MKL's layout gains 1.2x over plain products at 128 rows and 1.5x at 8 to 32
// (tests/bench/results/). On others MKL has general kernels and oneDNN's is faster: on a Zen 3, by the products of a
// decoding step alone, 1.25x and 1.35x over plain ones.
//
// A second copy of every weight used, as long as the object lives. A packed copy serves one number of rows exactly, so
// callers keep that number constant (padding the batch), and multiply plainly at others.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <unordered_map>

#include "vbon/model/layers.hpp"
#include "vbon/model/products.hpp"

namespace vbon {

class PackedWeights {
 public:
  explicit PackedWeights(std::int64_t rows, CpuLibrary library = fastest_cpu_library())
      : rows_(rows), library_(library) {}

  // Whether this LibTorch can pack weights like these and it pays: CPU, float32, not tiny, built with the layout's
  // library.
  static bool available(const at::Tensor& weight, CpuLibrary library = fastest_cpu_library());

  std::int64_t rows() const { return rows_; }
  // linear(x, layer), packing the weight when it is first seen if x has rows() rows.
  at::Tensor multiply(const at::Tensor& x, const Linear& layer);
  // Forgets the weights that require gradients: they may have changed. The others are taken to be constant.
  void forget_trained();

 private:
  struct Entry {
    at::Tensor weight, packed;  // the weight is held so that its address names it
  };
  std::int64_t rows_;
  CpuLibrary library_;
  std::unordered_map<const void*, Entry> entries_;  // by address of the weight's numbers
};

}  // namespace vbon
