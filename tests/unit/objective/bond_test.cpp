#include "vbon/objective/bond.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "unit/objective/golden.hpp"
#include "vbon/objective/bon.hpp"

namespace vbon {
namespace {

// The authors' sum, term by term.
TEST(Bond, with_collisions_is_the_sum_and_the_weight_of_best_of_n) {
  test::Cases cases;
  for (int i = 0; i < 2000; ++i) {
    const double f = cases.uniform(0.01, 1), strict = f * cases.uniform(0, 1);
    const int n = 1 + cases.below(40);
    double sum = 0;
    for (int k = 1; k <= n; ++k) sum += std::pow(strict / f, k - 1);
    EXPECT_NEAR(bond_reward({strict, f}, n, true), (n - 1) * std::log(f) + std::log(sum), 1e-10 * n);
    EXPECT_NEAR(bond_reward({strict, f}, n, false), (n - 1) * std::log(f), 1e-12 * n);
    EXPECT_LE(bond_reward({strict, f}, n, true) - bond_reward({strict, f}, n, false), std::log(n) + 1e-12);
  }
}

TEST(Jbond, mean_over_anchors_matches_log_p_at_one_half) {
  EXPECT_EQ(jbond_reward(0.0f, 1.0f, 2.0f), -std::log(16.0));
  EXPECT_EQ(jbond_reward(1.0f, 1.0f, 2.0f), 0);
  EXPECT_EQ(jbond_reward(1.5f, 1.0f, 2.0f), 0);
  // Anchors beat a response with F = p each with probability 1 - p: E = -log 16 (1-p)^2, -log 2 at p = 1/2.
  test::Cases cases;
  for (const double p : {0.2, 0.5, 0.9}) {
    double sum = 0;
    constexpr int kDraws = 200000;
    for (int i = 0; i < kDraws; ++i)
      sum +=
          jbond_reward(static_cast<float>(p), static_cast<float>(cases.uniform()), static_cast<float>(cases.uniform()));
    const double want = -std::log(16.0) * (1 - p) * (1 - p);
    EXPECT_NEAR(sum / kDraws, want, 0.02) << p;
    if (p == 0.5) {
      EXPECT_NEAR(want, -std::log(2.0), 1e-12);
    }
  }
}

}  // namespace
}  // namespace vbon
