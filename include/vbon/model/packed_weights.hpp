// Weights in the layout that a sampler's steps read fastest on CPUs with AVX-512: panels (cpu_kernels.hpp). MKL's own
// packed weights serve one number of rows exactly and read the weights 1.2 to 1.4 times as long at 16 and 32 rows; at
// 128 they are as fast (tests/bench/results/generate-cpu.md). On other CPUs product() (products.hpp) is what there is.
//
// A second copy of every weight used, as long as the object lives.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <unordered_map>

#include "vbon/model/layers.hpp"

namespace vbon {

class PackedWeights {
 public:
  static bool pays();  // on this CPU
  // linear(x, layer), x [n, in] float32 on the CPU; the weight is packed when it is first seen. What is not worth it
  // (small weights, other types, many rows) is multiplied plainly.
  at::Tensor multiply(const at::Tensor& x, const Linear& layer);
  // Forgets the weights that require gradients: they may have changed. The others are taken to be constant.
  void forget_trained();

 private:
  struct Entry {
    at::Tensor weight;  // held so that its address names it
    at::Tensor panels;  // [panels, in, kPanel]
    at::Tensor bias;    // [panels * kPanel], or undefined
  };
  std::unordered_map<const void*, Entry> entries_;  // by address of the weight's numbers
};

}  // namespace vbon
