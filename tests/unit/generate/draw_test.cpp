// One draw from a row of logits against the inverse CDF in double.
#include "generate/draw.hpp"

#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "unit/generate/sampling_oracle.hpp"
#include "vbon/base/error.hpp"

namespace vbon {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Rows [n, vocab] of normal logits with a standard deviation.
at::Tensor rows_of(std::int64_t n, std::int64_t vocab, double deviation) {
  at::Tensor z = at::empty({n, vocab}, at::kFloat);
  const RandomStream stream(1, Purpose::subset);
  float* data = z.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < n * vocab; ++i) data[i] = static_cast<float>(deviation * stream.normal(i));
  return z;
}

std::vector<double> row(const at::Tensor& z, std::int64_t i) {
  const float* data = z.const_data_ptr<float>() + i * z.size(1);
  return {data, data + z.size(1)};
}

struct Case {
  std::int64_t vocab;
  double temperature, deviation;
};

class Draws : public testing::TestWithParam<Case> {};

TEST_P(Draws, follow_the_inverse_cdf) {
  const auto [vocab, temperature, deviation] = GetParam();
  constexpr std::int64_t kRows = 80;
  const at::Tensor z = rows_of(kRows, vocab, deviation);
  const RandomStream stream(2, Purpose::subset);
  std::vector<double> uniforms;
  for (std::int64_t i = 0; i < kRows; ++i) uniforms.push_back(stream.uniform(i));
  uniforms[0] = 0;
  uniforms[1] = 1 - 0x1p-53;
  const std::vector<Drawn> got = draw_rows(z, {.temperature = temperature}, uniforms);
  ASSERT_EQ(got.size(), uniforms.size());
  int compared = 0;
  for (std::int64_t i = 0; i < kRows; ++i) {
    const std::vector<double> p = test::softmax(row(z, i), temperature);
    const auto k = static_cast<std::size_t>(i);
    EXPECT_NEAR(got[k].logp, std::log(p[static_cast<std::size_t>(got[k].token)]), 2e-6 * std::max(1.0, -got[k].logp))
        << "row " << i;
    const Drawn alone = draw(z, i, {.temperature = temperature}, uniforms[k]);
    EXPECT_EQ(alone.token, got[k].token);
    EXPECT_EQ(alone.logp, got[k].logp);
    const test::OracleToken want = test::inverse_cdf(p, uniforms[k]);
    if (want.margin < 1e-6) continue;  // float32 sums may decide otherwise
    EXPECT_EQ(got[k].token, want.token) << "row " << i;
    ++compared;
  }
  EXPECT_GT(compared, kRows / 2);
}

INSTANTIATE_TEST_SUITE_P(Rows, Draws,
                         testing::Values(Case{7, 1.0, 1.0}, Case{513, 0.7, 2.0}, Case{5000, 1.3, 3.0},
                                         Case{50257, 1.0, 4.0}, Case{1000, 0.05, 2.0}, Case{33, 20.0, 5.0}));

TEST(Draw, never_takes_a_token_without_probability) {
  at::Tensor z = at::empty({1, 2000}, at::kFloat);
  z.fill_(-1e30);
  for (const std::int64_t v : {3, 700, 1500}) z[0][v] = 0.0;
  for (const double u : {0.0, 0.2, 0.34, 0.6, 0.67, 1 - 0x1p-53}) {
    const Drawn got = draw(z, 0, {}, u);
    EXPECT_EQ(got.token, u < 1.0 / 3 ? 3 : u < 2.0 / 3 ? 700 : 1500) << u;
    EXPECT_NEAR(got.logp, -std::log(3.0), 1e-6);
  }
  z.fill_(0.0);
  z[0].narrow(0, 5, 1995).fill_(-200.0);  // exp(-200) vanishes beside five ones
  EXPECT_EQ(draw(z, 0, {}, 1 - 0x1p-53).token, 4);
}

TEST(Draw, truncation_by_k_then_by_mass) {
  at::Tensor z = at::empty({1, 5}, at::kFloat);
  const double p[] = {0.05, 0.4, 0.1, 0.3, 0.15};
  for (std::int64_t v = 0; v < 5; ++v) z[0][v] = std::log(p[v]);
  const auto drawn = [&](std::int64_t k, double mass, double u) { return draw(z, 0, {.top_k = k, .top_p = mass}, u); };
  for (double u = 0.005; u < 1; u += 0.01) {
    const Drawn two = drawn(2, 1.0, u);  // .4 and .3
    EXPECT_TRUE(two.token == 1 || two.token == 3);
    EXPECT_NEAR(two.logp, std::log(p[two.token] / 0.7), 1e-6);
    const Drawn most = drawn(0, 0.75, u);  // .4 + .3 < .75: the .15 comes in
    EXPECT_TRUE(most.token == 1 || most.token == 3 || most.token == 4);
    EXPECT_NEAR(most.logp, std::log(p[most.token] / 0.85), 1e-6);
    const Drawn both = drawn(3, 0.8, u);  // of .85 left by k, .8 is .68: two suffice
    EXPECT_TRUE(both.token == 1 || both.token == 3);
    EXPECT_NEAR(both.logp, std::log(p[both.token] / 0.7), 1e-6);
    EXPECT_EQ(drawn(1, 1.0, u).token, 1);
    EXPECT_EQ(drawn(0, 1e-9, u).token, 1);
    EXPECT_NEAR(drawn(1, 1.0, u).logp, 0, 1e-12);
  }
  EXPECT_EQ(drawn(2, 1.0, 4.0 / 7 - 1e-6).token, 1);
  EXPECT_EQ(drawn(2, 1.0, 4.0 / 7 + 1e-6).token, 3);
}

TEST(Draw, refuses_logits_that_are_not_finite) {
  at::Tensor z = at::empty({2, 600}, at::kFloat);
  z.fill_(0.0);
  z[1][37] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_NO_THROW(draw(z, 0, {}, 0.5));
  EXPECT_THROW(draw(z, 1, {}, 0.5), UserError);
  EXPECT_THROW(draw_rows(z, {}, {0.5, 0.01}), UserError);
  z[1][37] = kInfinity;
  EXPECT_THROW(draw(z, 1, {}, 0.5), UserError);
  z.fill_(-kInfinity);
  EXPECT_THROW(draw(z, 0, {}, 0.5), UserError);
}

}  // namespace
}  // namespace vbon
