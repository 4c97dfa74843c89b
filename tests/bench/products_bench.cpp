// The products of the quick-start's models without a gradient: at::linear beside product(). On Intel CPUs both are the
// same call. Not a test: run on an idle machine
//
//   products_bench [THREADS] [ROUNDS]
//
// Every round runs both of every shape, the order turning from round to round; a Markdown table.
#include <ATen/Parallel.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <c10/core/InferenceMode.h>
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "median.hpp"
#include "vbon/model/products.hpp"

namespace {

using namespace vbon;
using Clock = std::chrono::steady_clock;

struct Shape {
  const char* of;
  std::int64_t rows, in, out;
};

constexpr Shape kShapes[] = {
    {"prompts of a chunk", 24, 576, 960}, {"prompts of a chunk", 24, 576, 3072},
    {"texts to score", 384, 384, 1536},   {"texts to score", 384, 1536, 384},
    {"a micro-batch", 600, 576, 960},     {"a micro-batch", 600, 576, 3072},
    {"a micro-batch", 600, 1536, 576},    {"a micro-batch's vocabulary", 400, 576, 49152},
};

template <class Work>
double seconds(std::int64_t repeats, const Work& work) {
  const auto start = Clock::now();
  for (std::int64_t i = 0; i < repeats; ++i) work();
  return std::chrono::duration<double>(Clock::now() - start).count() / static_cast<double>(repeats);
}

void compare(const Shape& shape, int rounds) {
  const at::Tensor x = at::randn({shape.rows, shape.in}), weight = at::randn({shape.out, shape.in});
  const double operations = 2.0 * static_cast<double>(shape.rows * shape.in * shape.out);
  const auto repeats = std::max<std::int64_t>(1, static_cast<std::int64_t>(5e9 / operations));
  const auto plain = [&] { at::linear(x, weight); };
  const auto ours = [&] { product(x, weight, {}); };
  plain(), ours();
  std::vector<double> by_linear, by_product, ratios;
  for (int round = 0; round < rounds; ++round) {
    double linear_s = 0, product_s = 0;
    if (round % 2 == 0) {
      linear_s = seconds(repeats, plain);
      product_s = seconds(repeats, ours);
    } else {
      product_s = seconds(repeats, ours);
      linear_s = seconds(repeats, plain);
    }
    by_linear.push_back(operations / linear_s * 1e-9);
    by_product.push_back(operations / product_s * 1e-9);
    ratios.push_back(linear_s / product_s);
  }
  const auto [low, high] = std::minmax_element(ratios.begin(), ratios.end());
  fmt::print("| {} | {} x {} x {} | {:.1f} | {:.1f} | {:.2f}x ({:.2f} to {:.2f}) |\n", shape.of, shape.rows, shape.in,
             shape.out, median(by_linear), median(by_product), median(ratios), *low, *high);
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1, rounds = argc > 2 ? std::atoi(argv[2]) : 21;
  at::set_num_threads(threads);
  const c10::InferenceMode guard;
  fmt::print("{} thread{}, {} rounds, GFLOP/s\n\n", threads, threads == 1 ? "" : "s", rounds);
  fmt::print("| product | rows x in x out | at::linear | product() | ratio (range) |\n|---|---|---|---|---|\n");
  for (const Shape& shape : kShapes) compare(shape, rounds);
}
