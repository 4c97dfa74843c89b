// Weights in the layout that MKL's product reads fastest at one number of rows: what a sampler multiplies by at every
// step on an Intel CPU. It gains 1.2x over plain products at 128 rows and 1.5x at 8 to 32 (tests/bench/results/). On
// others oneDNN's plain product (products.hpp) is as fast as its packed one, of any number of rows.
//
// A second copy of every weight used, as long as the object lives. A packed copy serves one number of rows exactly, so
// callers keep that number constant (padding the batch), and multiply plainly at others.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <unordered_map>

#include "vbon/model/layers.hpp"

namespace vbon {

class PackedWeights {
 public:
  explicit PackedWeights(std::int64_t rows) : rows_(rows) {}

  static bool pays();  // on this CPU
  // Whether this LibTorch can pack weights like these: CPU, float32, not tiny, built with MKL.
  static bool available(const at::Tensor& weight);

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
  std::unordered_map<const void*, Entry> entries_;  // by address of the weight's numbers
};

}  // namespace vbon
