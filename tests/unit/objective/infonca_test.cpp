#include "vbon/objective/infonca.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace vbon {
namespace {

constexpr double kNothing = -std::numeric_limits<double>::infinity();

double loss(const std::vector<double>& log_w, const std::vector<double>& log_ratio, std::vector<double>& slope) {
  slope.assign(log_w.size(), 7);
  return infonca_loss(log_w, log_ratio, slope);
}

TEST(Infonca, is_the_divergence_of_two_distributions) {
  std::vector<double> slope;
  // p = (1/4, 3/4), q = (1/2, 1/2); and the same weights and ratios times a constant.
  const double want = 0.25 * std::log(0.5) + 0.75 * std::log(1.5);
  for (const double c : {0.0, -40.0, 700.0}) {
    EXPECT_NEAR(loss({std::log(1.0) + c, std::log(3.0) + c}, {-2 * c, -2 * c}, slope), want, 1e-12);
    EXPECT_NEAR(slope[0], 0.25, 1e-12);
    EXPECT_NEAR(slope[1], -0.25, 1e-12);
  }
  EXPECT_NEAR(loss({-3, 1, 0.5}, {-13, -9, -9.5}, slope), 0, 1e-15) << "fitted but for a constant";
  for (const double s : slope) EXPECT_NEAR(s, 0, 1e-15);
}

TEST(Infonca, weights_of_nothing) {
  std::vector<double> slope;
  EXPECT_NEAR(loss({kNothing, 0, 0}, {0, 0, 0}, slope), std::log(1.5), 1e-15);
  EXPECT_NEAR(slope[0], 1.0 / 3, 1e-15) << "it is to become rarer";
  EXPECT_EQ(loss({kNothing, kNothing}, {0, 1}, slope), 0);
  EXPECT_EQ(slope, (std::vector<double>{0, 0}));
  EXPECT_EQ(loss({0}, {-5000}, slope), 0) << "one sample says nothing";
  EXPECT_EQ(slope[0], 0);
}

TEST(Infonca, slopes_are_derivatives_and_sum_to_zero) {
  std::mt19937 random(5);
  std::normal_distribution<double> normal(0, 2);
  constexpr double kStep = 1e-6;
  for (int trial = 0; trial < 20; ++trial) {
    std::vector<double> log_w, log_ratio, slope, unused;
    for (int i = 0; i < 2 + trial % 6; ++i) log_w.push_back(normal(random)), log_ratio.push_back(normal(random));
    loss(log_w, log_ratio, slope);
    double sum = 0;
    for (std::size_t i = 0; i < slope.size(); ++i) {
      std::vector<double> up = log_ratio, down = log_ratio;
      up[i] += kStep, down[i] -= kStep;
      EXPECT_NEAR(slope[i], (loss(log_w, up, unused) - loss(log_w, down, unused)) / (2 * kStep), 1e-8);
      sum += slope[i];
    }
    EXPECT_NEAR(sum, 0, 1e-14);
  }
}

}  // namespace
}  // namespace vbon
