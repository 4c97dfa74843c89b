#include "generate/draw.hpp"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "vbon/base/error.hpp"
#include "vbon/model/cpu_kernels.hpp"

namespace vbon {
namespace {

// top_k, then top_p of what is left, as is usual; kept tokens keep their order of probability.
Drawn draw_truncated(const float* z, std::int64_t vocab, const SamplingConfig& sampling, double uniform) {
  std::vector<std::int32_t> order(static_cast<std::size_t>(vocab));
  std::iota(order.begin(), order.end(), 0);
  const auto kept = static_cast<std::ptrdiff_t>(sampling.top_k > 0 ? std::min(sampling.top_k, vocab) : vocab);
  std::partial_sort(order.begin(), order.begin() + kept, order.end(),
                    [z](std::int32_t a, std::int32_t b) { return z[a] != z[b] ? z[a] > z[b] : a < b; });
  order.resize(static_cast<std::size_t>(kept));
  std::vector<double> mass;
  for (const std::int32_t token : order)
    mass.push_back(std::exp((static_cast<double>(z[token]) - z[order[0]]) / sampling.temperature));
  const double whole = std::accumulate(mass.begin(), mass.end(), 0.0);
  std::size_t count = 0;
  double total = 0;
  while (count < mass.size() && (count == 0 || total < sampling.top_p * whole)) total += mass[count++];
  double left = uniform * total;
  std::size_t i = 0;
  while (i + 1 < count && left >= mass[i]) left -= mass[i++];
  return {order[i], std::log(mass[i] / total)};
}

Drawn draw_row(const float* z, std::int64_t vocab, const SamplingConfig& sampling, double uniform) {
  if (sampling.top_k > 0 || sampling.top_p < 1.0) return draw_truncated(z, vocab, sampling, uniform);
  const kernels::Draw drawn = kernels::row_draw(z, vocab, static_cast<float>(1.0 / sampling.temperature), uniform);
  return {static_cast<std::int32_t>(drawn.token), drawn.logp};
}

void check_finite(const std::vector<Drawn>& drawn) {
  for (const Drawn& d : drawn)
    require(std::isfinite(d.logp) && d.token >= 0,
            "the model gives logits that are not finite: its weights are broken (or training has diverged)");
}

}  // namespace

Drawn draw(const at::Tensor& logits, std::int64_t row, const SamplingConfig& sampling, double uniform) {
  const at::Tensor z = logits.select(0, row).cpu().contiguous();
  const std::vector<Drawn> drawn = {draw_row(z.const_data_ptr<float>(), z.size(0), sampling, uniform)};
  check_finite(drawn);
  return drawn[0];
}

std::vector<Drawn> draw_rows(const at::Tensor& logits, const SamplingConfig& sampling,
                             const std::vector<double>& uniforms) {
  const at::Tensor z = logits.cpu().contiguous();  // [n, V]
  const std::int64_t vocab = z.size(1);
  const float* data = z.const_data_ptr<float>();
  std::vector<Drawn> drawn(uniforms.size());
  check(static_cast<std::int64_t>(uniforms.size()) <= z.size(0), "draw_rows: fewer rows than uniforms");
  at::parallel_for(0, static_cast<std::int64_t>(uniforms.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      drawn[static_cast<std::size_t>(i)] =
          draw_row(data + i * vocab, vocab, sampling, uniforms[static_cast<std::size_t>(i)]);
  });
  check_finite(drawn);
  return drawn;
}

}  // namespace vbon
