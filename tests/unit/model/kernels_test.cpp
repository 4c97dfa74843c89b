// The loops over rows against the same formulas in double: softmax statistics with their gradient, attention of one
// token, norm, rotation and gate; sizes around the blocks and lanes that they work in.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "vbon/base/rng.hpp"
#include "vbon/model/cpu_kernels.hpp"

namespace vbon {
namespace {

using Floats = std::vector<float>;

Floats normals(std::int64_t n, std::uint64_t seed, double deviation = 1.0) {
  const RandomStream stream(seed, Purpose::subset);
  Floats values(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i)
    values[static_cast<std::size_t>(i)] = static_cast<float>(deviation * stream.normal(i));
  return values;
}

std::vector<double> log_softmax(const Floats& z, double temperature) {
  const double top = *std::max_element(z.begin(), z.end());
  double sum = 0;
  for (const float v : z) sum += std::exp((v - top) / temperature);
  std::vector<double> out;
  for (const float v : z) out.push_back((v - top) / temperature - std::log(sum));
  return out;
}

struct Row {
  std::int64_t vocab;
  double temperature, deviation;
};

class Softmax : public testing::TestWithParam<Row> {};

TEST_P(Softmax, statistics_and_gradient_by_their_closed_forms) {
  const auto [vocab, temperature, deviation] = GetParam();
  const auto n = static_cast<std::size_t>(vocab);
  const auto inverse = static_cast<float>(1 / temperature);
  const Floats z = normals(vocab, 1, deviation), z_ref = normals(vocab, 2, deviation);
  const std::vector<double> p = log_softmax(z, temperature), q = log_softmax(z_ref, temperature);
  double kl = 0, entropy = 0;
  for (std::size_t v = 0; v < n; ++v) {
    kl += std::exp(p[v]) * (p[v] - q[v]);
    entropy -= std::exp(p[v]) * p[v];
  }
  for (const std::int64_t token : {std::int64_t{0}, vocab / 2, vocab - 1}) {
    const auto k = static_cast<std::size_t>(token);
    const kernels::RowStatistics got = kernels::row_statistics(z.data(), z_ref.data(), vocab, inverse, token);
    const double scale = 1e-5 * std::max(1.0, deviation / temperature);
    EXPECT_NEAR(got.logp, p[k], scale);
    EXPECT_NEAR(got.logp_ref, q[k], scale);
    EXPECT_NEAR(got.kl, kl, scale * std::max(1.0, kl));
    EXPECT_NEAR(got.entropy, entropy, scale);
    const kernels::RowStatistics alone = kernels::row_statistics(z.data(), nullptr, vocab, inverse, token);
    EXPECT_EQ(alone.logp, got.logp);
    EXPECT_NEAR(alone.entropy, entropy, scale);
    for (const bool with_reference : {true, false}) {
      Floats gradient = z;
      const float c_kl = with_reference ? -0.6f : 0.0f;
      kernels::row_gradient(gradient.data(), with_reference ? z_ref.data() : nullptr, vocab, inverse, token, got, 1.3f,
                            c_kl, 0.4f);
      for (std::size_t v = 0; v < n; ++v) {
        const double pv = std::exp(p[v]);
        const double want =
            (1.3 * ((v == k ? 1 : 0) - pv) + c_kl * pv * (p[v] - q[v] - kl) - 0.4 * pv * (p[v] + entropy)) /
            temperature;
        EXPECT_NEAR(gradient[v], want, 3e-6 * std::max(1.0, deviation / temperature) / temperature) << v;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, Softmax,
                         testing::Values(Row{1, 1.0, 1.0}, Row{7, 0.7, 2.0}, Row{511, 1.0, 3.0}, Row{512, 1.3, 3.0},
                                         Row{513, 0.8, 3.0}, Row{3000, 1.0, 0.1}, Row{1025, 0.5, 8.0}));

struct Attention {
  std::int64_t group, head_dim, prefix, suffix;
  double deviation;
};

class Attends : public testing::TestWithParam<Attention> {};

TEST_P(Attends, to_prefix_and_suffix_and_to_nothing_behind_them) {
  const auto [group, d, prefix, suffix, deviation] = GetParam();
  const std::int64_t before = kernels::in_lanes(prefix),
                     stride = kernels::in_lanes(suffix) + kernels::kLane;  // a slot with room
  const Floats q = normals(group * d, 1, deviation), values = normals((prefix + suffix) * d, 3);
  Floats prefix_keys = normals(d * before, 4, 50.0),
         suffix_keys = normals(d * stride, 5, 50.0);      // what is behind is large
  const Floats keys = normals((prefix + suffix) * d, 2);  // [position, d]
  for (std::int64_t j = 0; j < prefix + suffix; ++j)
    for (std::int64_t i = 0; i < d; ++i) {
      const float key = keys[static_cast<std::size_t>(j * d + i)];
      if (j < prefix) prefix_keys[static_cast<std::size_t>(i * before + j)] = key;
      else suffix_keys[static_cast<std::size_t>(i * stride + j - prefix)] = key;
    }
  Floats scratch(static_cast<std::size_t>(4 * (before + kernels::in_lanes(suffix))), std::nanf("")),
      out(static_cast<std::size_t>(group * d), std::nanf(""));
  kernels::attend_row(q.data(), group, d, 0.25f, {prefix_keys.data(), values.data(), prefix, before},
                      {suffix_keys.data(), values.data() + prefix * d, suffix, stride}, scratch.data(), out.data());
  for (std::int64_t g = 0; g < group; ++g) {
    std::vector<double> score, want(static_cast<std::size_t>(d));
    for (std::int64_t j = 0; j < prefix + suffix; ++j) {
      double s = 0;
      for (std::int64_t i = 0; i < d; ++i)
        s += static_cast<double>(q[static_cast<std::size_t>(g * d + i)]) * keys[static_cast<std::size_t>(j * d + i)];
      score.push_back(0.25 * s);
    }
    const double top = *std::max_element(score.begin(), score.end());
    double sum = 0;
    for (double& s : score) sum += s = std::exp(s - top);
    for (std::int64_t j = 0; j < prefix + suffix; ++j)
      for (std::int64_t i = 0; i < d; ++i)
        want[static_cast<std::size_t>(i)] +=
            score[static_cast<std::size_t>(j)] / sum * values[static_cast<std::size_t>(j * d + i)];
    for (std::int64_t i = 0; i < d; ++i)
      EXPECT_NEAR(out[static_cast<std::size_t>(g * d + i)], want[static_cast<std::size_t>(i)],
                  2e-5 * std::max(1.0, deviation))
          << "query " << g << ", " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Attends,
                         testing::Values(Attention{1, 4, 1, 1, 1}, Attention{3, 64, 15, 16, 1},
                                         Attention{4, 16, 16, 17, 1}, Attention{2, 20, 17, 1, 1},
                                         Attention{5, 8, 40, 33, 1}, Attention{9, 32, 33, 48, 1},
                                         Attention{6, 80, 100, 5, 1}, Attention{3, 64, 30, 30, 30}));

TEST(Rows, norm_rotation_and_gate_by_their_formulas) {
  for (const std::int64_t n : {1, 3, 16, 17, 100, 576}) {
    const auto size = static_cast<std::size_t>(n);
    const Floats x = normals(n, 1, 3.0), w = normals(n, 2);
    Floats out(size);
    kernels::rms_norm_row(x.data(), w.data(), n, 1e-5f, out.data());
    double squares = 0;
    for (const float v : x) squares += static_cast<double>(v) * v;
    for (std::size_t i = 0; i < size; ++i) {
      const double want = x[i] / std::sqrt(squares / static_cast<double>(n) + 1e-5) * w[i];
      EXPECT_NEAR(out[i], want, 2e-6 * std::max(1.0, std::abs(want)));
    }
    Floats gate = normals(n, 3, 20.0);
    gate[0] = -200.0f;  // its exponential is beyond float32
    kernels::silu_gate_row(gate.data(), w.data(), n, out.data());
    for (std::size_t i = 0; i < size; ++i) {
      const double want = gate[i] / (1 + std::exp(-static_cast<double>(gate[i]))) * w[i];
      EXPECT_NEAR(out[i], want, 2e-6 * std::max(1.0, std::abs(want))) << gate[i];
    }
    gate[0] = 200.0f;
    kernels::silu_gate_row(gate.data(), w.data(), n, out.data());
    EXPECT_NEAR(out[0], 200.0f * w[0], 1e-4);
  }
  // Rotation by an angle, the rest of each head as it was.
  constexpr std::int64_t kHeads = 3, kDim = 22;
  const Floats x = normals(kHeads * kDim, 1), angles = normals(8, 2, 2.0);
  Floats cos, sin, out(x.size());
  for (const float a : angles) {
    cos.push_back(std::cos(a));
    sin.push_back(std::sin(a));
  }
  kernels::rope_row(x.data(), cos.data(), sin.data(), kHeads, kDim, 8, out.data());
  for (std::size_t h = 0; h < kHeads; ++h)
    for (std::size_t i = 0; i < kDim; ++i) {
      const std::size_t at = h * kDim + i;
      double want = x[at];
      if (i < 8) want = x[at] * std::cos(angles[i]) - x[at + 8] * std::sin(angles[i]);
      else if (i < 16) want = x[at] * std::cos(angles[i - 8]) + x[at - 8] * std::sin(angles[i - 8]);
      EXPECT_NEAR(out[at], want, 1e-6) << h << ", " << i;
    }
}

}  // namespace
}  // namespace vbon
