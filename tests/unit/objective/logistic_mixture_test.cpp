// The mixture against sums and differences taken here, and log F with it as a prior beside the counts.
#include "vbon/objective/logistic_mixture.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "vbon/objective/log_f.hpp"
#include "vbon/objective/vbon.hpp"

namespace vbon {
namespace {

const std::vector<double> kWeight = {0.2, 0.5, 0.3};
const LogisticMixture kMixture{{std::log(0.2), std::log(0.5), std::log(0.3)}, {-1.0, 0.5, 2.0}, {0.3, 0.7, 0.1}};

double sigmoid(double z) { return 1 / (1 + std::exp(-z)); }

TEST(LogisticMixture, cdf_and_density_are_those_of_the_definition) {
  for (double x = -4; x <= 5; x += 0.37) {
    double cdf = 0, density = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      const double s = sigmoid((x - kMixture.mean[k]) / kMixture.scale[k]);
      cdf += kWeight[k] * s;
      density += kWeight[k] * s * (1 - s) / kMixture.scale[k];
    }
    EXPECT_NEAR(kMixture.cdf(x), cdf, 1e-13);
    EXPECT_NEAR(kMixture.log_density(x), std::log(density), 1e-9);
  }
  EXPECT_NEAR(kMixture.log_cdf(-1000), std::log(0.5) - 1000.5 / 0.7, 1e-6) << "the widest component's tail";
  EXPECT_DOUBLE_EQ(kMixture.cdf(1000), 1.0);
}

TEST(LogisticMixture, the_gradient_is_that_of_differences) {
  const auto with = [](std::size_t i, double by) {  // a step along one of logits, means, scales
    LogisticMixture m = kMixture;
    if (i < 3) {
      double sum = 0;
      for (std::size_t k = 0; k < 3; ++k) sum += std::exp(m.log_weight[k] += k == i ? by : 0.0);
      for (double& w : m.log_weight) w -= std::log(sum);
    } else {
      (i < 6 ? m.mean : m.scale)[i % 3] += by;
    }
    return m;
  };
  for (const double x : {-2.0, 0.4, 1.9, 2.3}) {
    std::vector<double> gradient(9);
    add_log_density_gradient(kMixture, x, 2.0, gradient);
    for (std::size_t i = 0; i < 9; ++i) {
      const double slope = (with(i, 1e-5).log_density(x) - with(i, -1e-5).log_density(x)) / 2e-5;
      EXPECT_NEAR(gradient[i], 2 * slope, 1e-6 * std::max(1.0, std::abs(slope))) << i << " at " << x;
    }
  }
}

TEST(LogisticMixture, the_quantile_pair_is_half_a_step_to_either_side) {
  const LogF f = log_f_of(kMixture, 0.5, 0.2);
  EXPECT_NEAR(f.exact.f_strict, kMixture.cdf(0.4), 1e-15);
  EXPECT_NEAR(f.exact.f, kMixture.cdf(0.6), 1e-15);
  EXPECT_DOUBLE_EQ(f.log_f, kMixture.log_cdf(0.4));
  const LogF continuous = log_f_of(kMixture, 0.5, 0);
  EXPECT_EQ(continuous.exact.f, continuous.exact.f_strict);
  EXPECT_NEAR(log_weight({.n = 4}, continuous), std::log(4.0) + 3 * continuous.log_f, 1e-12);
}

TEST(LogFPrior, counts_and_model_are_weighed_by_samples) {
  const std::vector<float> rewards = {-1, 0, 0, 2, /* row 1 */ 1, 1, 1, 1};
  LogFTable table(rewards, 2, Estimator::add_one);
  constexpr double kWorth = 3, kRound = 0.5;
  table.set_prior({.of_row = {kMixture, kMixture}, .weight = kWorth, .round = kRound});
  const auto model = [](float r) { return std::pair(kMixture.cdf(r - 0.25), kMixture.cdf(r + 0.25)); };
  struct Case {
    std::int64_t row;
    float reward;
    double lt, le;
  };
  for (const Case& c : {Case{0, -5, 0, 0}, {0, 0, 1, 3}, {0, 0.5, 3, 3}, {0, 9, 4, 4}, {1, 1, 0, 4}}) {
    const auto [strict, whole] = model(c.reward);
    const LogF f = table.of(c.row, c.reward);
    EXPECT_NEAR(f.exact.f_strict, (c.lt + kWorth * strict) / (4 + kWorth), 1e-12);
    EXPECT_NEAR(f.exact.f, (c.le + kWorth * whole) / (4 + kWorth), 1e-12);
    EXPECT_NEAR(f.log_f, std::log((c.lt + kWorth * strict) / (4 + kWorth)), 1e-9);
    EXPECT_EQ(f.at_floor, c.lt == 0);
    EXPECT_EQ(f.at_ceiling, c.lt == 4);
    EXPECT_TRUE(std::isfinite(log_weight({.n = 16}, f)));
  }
  const LogF own = table.of_own(0, 0);  // one of two: one below, one tied, of three others
  EXPECT_NEAR(own.exact.f_strict, (1 + kWorth * model(0).first) / (3 + kWorth), 1e-12);
  EXPECT_NEAR(own.exact.f, (2 + kWorth * model(0).second) / (3 + kWorth), 1e-12);
  EXPECT_LT(table.of(0, -5).log_f, -6) << "far below, the model's tail goes on";
}

}  // namespace
}  // namespace vbon
