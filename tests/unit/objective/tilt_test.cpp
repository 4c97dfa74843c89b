#include "vbon/objective/tilt.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "unit/objective/golden.hpp"
#include "vbon/objective/bon.hpp"

namespace vbon {
namespace {

const std::vector<double> kStrengths = {1.0, 1.0001, 1.5, 2, 4, 10, 100, 1000};

TEST(Tilt, best_of_n_is_one_of_them) {
  for (const double n : kStrengths) {
    EXPECT_EQ(log_tilt_weight(Target::bon, 0.3, 0.4, n), log_bon_weight(0.3, 0.4, n));
    EXPECT_EQ(tilt_kl(Target::bon, n), bon_kl(n));
    EXPECT_EQ(tilt_win_rate(Target::bon, n), bon_win_rate(n));
  }
}

TEST(Tilt, strength_one_is_the_reference) {
  for (const Target target : {Target::bon, Target::exp_tilt, Target::poisson}) {
    EXPECT_EQ(log_tilt_weight(target, 0.2, 0.9, 1), 0);
    EXPECT_NEAR(tilt_kl(target, 1), 0, 1e-15);
    EXPECT_NEAR(tilt_win_rate(target, 1), 0.5, 1e-15);
  }
}

// Whatever the quantiles are cut into, the weights average to one.
TEST(Tilt, weights_sum_to_one_over_any_ties) {
  test::Cases cases;
  for (int i = 0; i < 2000; ++i) {
    std::vector<double> cut = {0, 1};
    for (int k = cases.below(6); k > 0; --k) cut.push_back(cases.uniform(0, 1));
    std::sort(cut.begin(), cut.end());
    const double n = kStrengths[static_cast<std::size_t>(cases.below(8))];
    for (const Target target : {Target::bon, Target::exp_tilt, Target::poisson}) {
      double sum = 0;
      for (std::size_t k = 1; k < cut.size(); ++k)
        if (cut[k] > cut[k - 1])
          sum += (cut[k] - cut[k - 1]) * std::exp(log_tilt_weight(target, cut[k - 1], cut[k], n));
      EXPECT_NEAR(sum, 1, 1e-12 * n) << enum_names(target)[static_cast<std::size_t>(target)].second << " " << n;
    }
  }
}

TEST(Tilt, a_tie_has_the_mean_of_the_densities_within) {
  for (const Target target : {Target::exp_tilt, Target::poisson})
    for (const double n : {1.5, 4.0, 30.0}) {
      const double a = 0.35, b = 0.8;
      double mean = 0;
      constexpr int kCells = 20000;
      for (int k = 0; k < kCells; ++k) {
        const double u = a + (b - a) * (k + 0.5) / kCells;
        mean += std::exp(log_tilt_weight(target, u, u, n)) / kCells;
      }
      EXPECT_NEAR(std::exp(log_tilt_weight(target, a, b, n)) / mean, 1, 1e-6);
    }
}

// Densities written out: e^{u/beta}/Z, and the mixture of u^{k-1} k over k = 1 + Poisson(mu).
TEST(Tilt, densities) {
  for (const double n : {1.5, 4.0, 30.0})
    for (const double u : {0.0, 0.1, 0.5, 0.97, 1.0}) {
      const double s = n - 1;
      EXPECT_NEAR(std::exp(log_tilt_weight(Target::exp_tilt, u, u, n)), std::exp(s * u) * s / std::expm1(s), 1e-12 * n);
      double mixture = 0, log_share = -s;
      for (int k = 0; k < 400; ++k) {
        mixture += std::exp(log_share) * (k + 1) * std::pow(u, k);
        log_share += std::log(s) - std::log(k + 1);
      }
      EXPECT_NEAR(std::exp(log_tilt_weight(Target::poisson, u, u, n)), mixture, 1e-10 * n);
    }
}

TEST(Tilt, closed_forms) {
  for (const double n : {1.1, 2.0, 4.0, 10.0, 100.0}) {
    const double beta = 1 / (n - 1), mu = n - 1;
    const double win = 1 / -std::expm1(-1 / beta) - beta;
    EXPECT_NEAR(tilt_win_rate(Target::exp_tilt, n), win, 1e-12);
    EXPECT_NEAR(tilt_kl(Target::exp_tilt, n), win / beta - std::log(beta * std::expm1(1 / beta)), 1e-11);
    EXPECT_NEAR(tilt_win_rate(Target::poisson, n), 1 - (mu - 1 + std::exp(-mu)) / (mu * mu), 1e-12);
  }
  // The note's figures: Best-of-Poisson at mu = 9, the exponential tilt at the KL of Best-of-N.
  EXPECT_NEAR(tilt_kl(Target::poisson, 10), 1.315, 5e-4);
  EXPECT_NEAR(tilt_win_rate(Target::poisson, 10), 0.9012, 5e-5);
  const auto win_at_kl_of_bon = [](double bon_n) {
    double low = 1, high = 1000;
    for (int i = 0; i < 200; ++i) {
      const double middle = (low + high) / 2;
      (tilt_kl(Target::exp_tilt, middle) < bon_kl(bon_n) ? low : high) = middle;
    }
    return tilt_win_rate(Target::exp_tilt, low);
  };
  EXPECT_NEAR(win_at_kl_of_bon(2), .6759, 5e-5);
  EXPECT_NEAR(win_at_kl_of_bon(4), .8040, 5e-5);
  EXPECT_NEAR(win_at_kl_of_bon(10), .9095, 5e-5);
}

}  // namespace
}  // namespace vbon
