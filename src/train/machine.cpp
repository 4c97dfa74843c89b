#include "vbon/train/machine.hpp"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/Version.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "vbon/train/run_inputs.hpp"

namespace vbon {
namespace {

// Calls of `work` a second at its fastest within about `seconds`: what this machine can do, whoever else is at work on
// it now.
template <class Work>
double rate_of(double seconds, const Work& work) {
  using Clock = std::chrono::steady_clock;
  work();
  const auto start = Clock::now();
  double fastest = std::numeric_limits<double>::infinity(), passed = 0;
  do {
    const auto before = Clock::now();
    work();
    const auto after = Clock::now();
    fastest = std::min(fastest, std::chrono::duration<double>(after - before).count());
    passed = std::chrono::duration<double>(after - start).count();
  } while (passed < seconds);
  return 1 / std::max(fastest, 1e-9);
}

// Flops a second of [rows, inner] by the transpose of [columns, inner], as layers are kept.
double product_rate(std::int64_t rows, std::int64_t inner, std::int64_t columns, double seconds) {
  // One product stays short whatever the model, and long enough to be timed: a part of the columns runs at the same
  // rate.
  constexpr std::int64_t kLeastProducts = 4'000'000, kMostProducts = 500'000'000;
  const std::int64_t products_a_column = std::max<std::int64_t>(1, rows * inner);
  columns = std::min(columns, std::max<std::int64_t>(64, kMostProducts / products_a_column));
  columns = std::max(columns, kLeastProducts / products_a_column);
  const at::Tensor a = at::full({rows, inner}, 0.5, at::kFloat), b = at::full({columns, inner}, 0.25, at::kFloat).t();
  at::Tensor result = at::empty({rows, columns}, at::kFloat);
  const double products = static_cast<double>(rows) * static_cast<double>(inner) * static_cast<double>(columns);
  return 2 * products * rate_of(seconds, [&] { at::mm_out(result, a, b); });
}

}  // namespace

ComputeRates measure_rates(const LmSpec& model, std::int64_t decode_rows, std::int64_t learn_rows, int threads,
                           double seconds) {
  constexpr std::int64_t kMostRows = 2048;
  const c10::InferenceMode guard;
  const int before = at::get_num_threads();
  const std::int64_t columns =
      std::max<std::int64_t>(64, model.gated_mlp ? 2 * model.intermediate_size : model.intermediate_size);
  const auto measured_with = [&](int count, double time) {
    at::set_num_threads(count);
    ComputeRates rates;
    rates.decode_flops =
        product_rate(std::clamp<std::int64_t>(decode_rows, 1, kMostRows), model.hidden_size, columns, time / 3);
    rates.learn_flops =
        product_rate(std::clamp<std::int64_t>(learn_rows, 1, kMostRows), model.hidden_size, columns, time / 3);
    const at::Tensor large = at::full({std::int64_t{16} << 20}, 1.0, at::kFloat);  // 64 MiB: no cache holds it
    rates.bytes = static_cast<double>(large.nbytes()) * rate_of(time / 3, [&] { large.sum(); });
    return rates;
  };
  ComputeRates rates = measured_with(threads, threads > 1 ? seconds / 2 : seconds);
  if (threads > 1) {
    // On a busy machine threads wait for each other: one alone shows what a core can do.
    const ComputeRates alone = measured_with(1, seconds / 2);
    rates.busy = rates.learn_flops < alone.learn_flops;
    rates.decode_flops = std::max(rates.decode_flops, alone.decode_flops);
    rates.learn_flops = std::max(rates.learn_flops, alone.learn_flops);
    rates.bytes = std::max(rates.bytes, alone.bytes);
  }
  at::set_num_threads(before);
  return rates;
}

TorchFacts torch_facts() {
  TorchFacts facts{.version = torch_version(), .worst_error = std::numeric_limits<double>::quiet_NaN()};
  try {
    const c10::InferenceMode guard;
    facts.cpu_capability = at::get_cpu_capability();
    if (at::hasMKL()) facts.mkl = at::get_mkl_version();
    if (at::hasMKLDNN()) facts.onednn = at::get_mkldnn_version();
    facts.threads = at::get_num_threads();
    constexpr std::int64_t kSize = 96;
    at::Tensor a = at::empty({kSize, kSize}, at::kFloat);
    float* values = a.mutable_data_ptr<float>();
    for (std::int64_t i = 0; i < kSize * kSize; ++i) values[i] = static_cast<float>(std::sin(static_cast<double>(i)));
    const at::Tensor product = at::mm(a, a.t());
    const float* got = product.const_data_ptr<float>();
    double worst = 0;
    for (std::int64_t i = 0; i < kSize; ++i)
      for (std::int64_t j = 0; j < kSize; ++j) {
        double sum = 0;
        for (std::int64_t k = 0; k < kSize; ++k)
          sum += static_cast<double>(values[i * kSize + k]) * static_cast<double>(values[j * kSize + k]);
        worst = std::max(worst, std::abs(sum - static_cast<double>(got[i * kSize + j])));
      }
    facts.worst_error = worst;
  } catch (const std::exception& e) {
    facts.failure = e.what();
  }
  return facts;
}

}  // namespace vbon
