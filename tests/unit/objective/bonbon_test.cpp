#include "vbon/objective/bonbon.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "vbon/objective/bon.hpp"

namespace vbon {
namespace {

TEST(Bonbon, target_margins) {
  EXPECT_EQ(bonbon_margin(1), 0);
  EXPECT_EQ(bonbon_margin(2), 1);
  EXPECT_NEAR(bonbon_margin(4), 5.5, 1e-12);
  EXPECT_NEAR(bonbon_margin(8), 18.15, 1e-12);
  EXPECT_NEAR(bonbon_beta(8), 0.0275482, 5e-8);
  EXPECT_NEAR(bonbon_margin(16), 49.77, 5e-3);
  EXPECT_NEAR(bonbon_margin(100), 512.56, 5e-3);
}

// What the margin stands for: the mean of log w_n(best) - log w_n(worst) over n uniform quantiles.
TEST(Bonbon, the_margin_is_that_of_best_of_n) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> uniform;
  for (const int n : {2, 4, 8}) {
    constexpr int kDraws = 200000;
    double sum = 0, squares = 0;
    for (int i = 0; i < kDraws; ++i) {
      double best = 0, worst = 1;
      for (int k = 0; k < n; ++k) {
        const double u = uniform(random);
        best = std::max(best, u);
        worst = std::min(worst, u);
      }
      const double margin = log_bon_weight(best, best, n) - log_bon_weight(worst, worst, n);
      sum += margin;
      squares += margin * margin;
    }
    const double mean = sum / kDraws, error = std::sqrt((squares / kDraws - mean * mean) / kDraws);
    EXPECT_NEAR(mean, bonbon_margin(n), 4 * error);
  }
}

TEST(Bonbon, slopes_are_derivatives) {
  const double logp = -31, ref_best = -30, worst = -25, ref_worst = -26, h = 1e-5;
  for (const double alpha : {0.0, 0.005, 0.5, 1.0}) {
    const auto at = [&](double best, double w) {
      return bonbon_loss(best, (best - ref_best) - (w - ref_worst), 8, alpha);
    };
    const BonbonLoss loss = at(logp, worst);
    EXPECT_NEAR(loss.loss, alpha * loss.nll + (1 - alpha) * loss.square, 1e-12);
    EXPECT_NEAR(loss.best_slope, (at(logp + h, worst).loss - at(logp - h, worst).loss) / (2 * h), 1e-5);
    EXPECT_NEAR(loss.worst_slope, (at(logp, worst + h).loss - at(logp, worst - h).loss) / (2 * h), 1e-5);
  }
}

TEST(Bonbon, alpha_balances_the_terms_at_the_reference) {
  for (const int n : {2, 8, 64}) {
    const double alpha = bonbon_alpha(n, 40);
    const BonbonLoss loss = bonbon_loss(-40, 0, n, alpha);
    EXPECT_NEAR(alpha * loss.nll, (1 - alpha) * loss.square, 1e-9 * loss.square);
  }
}

}  // namespace
}  // namespace vbon
