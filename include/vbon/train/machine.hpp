// What this machine's LibTorch is and how fast it computes, for `vbon plan` and `vbon doctor`.
#pragma once

#include <string>

#include "vbon/train/run_plan.hpp"

namespace vbon {

// Measured here for about `seconds` in all, each at its fastest: float32 products of the model's own shapes (rows of a
// decoding step, rows of a micro-batch) and reading of memory, with `threads` threads. On CPUs.
ComputeRates measure_rates(const LmSpec& model, std::int64_t decode_rows, std::int64_t learn_rows, int threads,
                           double seconds = 0.3);

struct TorchFacts {
  std::string version;         // "2.11.0"
  std::string cpu_capability;  // "AVX2", "AVX512", "DEFAULT": kernels in use
  std::string mkl, onednn;     // versions; "" where not built in
  int threads = 1;             // of tensor operations, as set now
  double worst_error = 0;      // of a product computed here against the same sums in double precision; NaN: it failed
  std::string failure;         // why it failed
};
TorchFacts torch_facts();

}  // namespace vbon
