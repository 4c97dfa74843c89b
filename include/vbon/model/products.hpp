// x wᵀ + bias by the fastest product that LibTorch holds for this CPU.
//
// at::linear multiplies float32 by MKL, which on CPUs that are not Intel's first copies every weight into tiles.
// oneDNN, in the same LibTorch, takes it as it lies: up to 1.3 times as fast on one thread, up to 1.8 times on two,
// most where rows are few or the weight is wide (tests/bench/results/products-cpu.md).
#pragma once

#include <ATen/core/Tensor.h>

namespace vbon {

enum class CpuLibrary { mkl, onednn };

// By the CPU's vendor, not by timing, so that a machine's bits repeat.
CpuLibrary fastest_cpu_library();

// x [..., in], weight [out, in], bias [out] or undefined -> [..., out]. Differentiable: at::linear where a gradient is
// wanted, and on other devices and types.
at::Tensor product(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

}  // namespace vbon
