#include "vbon/objective/bon.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "unit/objective/golden.hpp"

namespace vbon {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

// Error that rounding the inputs' logarithms alone would cause: log w is a difference of terms of size N |log F|.
double rounding(double n, double log_f, double value) {
  return 1e-15 * (8 + std::abs(value) + n * std::abs(std::isfinite(log_f) ? log_f : 0.0));
}

TEST(BonWeight, equals_60_digit_arithmetic) {
  const auto rows = test::golden("bon.json", "weights");
  ASSERT_GT(rows.size(), 200u);
  for (const auto& row : rows) {
    const double a = row[0], b = row[1], n = row[2], expected = row[3];
    const double tolerance = rounding(n, std::log(b), expected);
    EXPECT_NEAR(log_bon_weight(a, b, n), expected, tolerance) << a << " " << b << " N=" << n;
  }
}

TEST(BonWeight, slope_equals_60_digit_arithmetic) {
  for (const auto& row : test::golden("bon.json", "weights")) {
    const double a = row[0], b = row[1], n = row[2], expected = row[4];
    const double tolerance = 4e-15 * (1 + std::abs(std::log(b)) + 1 / n);
    EXPECT_NEAR(log_bon_weight_slope(a, b, n), expected, tolerance) << a << " " << b << " N=" << n;
  }
}

TEST(BonWeight, is_one_at_n_1_and_power_at_zero_and_limit_at_equality) {
  test::Cases cases;
  for (int i = 0; i < 3000; ++i) {
    double a = cases.uniform(), b = cases.uniform();
    if (a > b) std::swap(a, b);
    const double n = 1 + std::exp(cases.uniform(-8, 9));
    EXPECT_EQ(log_bon_weight(a, b, 1.0), 0.0);
    EXPECT_NEAR(log_bon_weight(0.0, b, n), (n - 1) * std::log(b), 1e-15 * n * (1 + std::abs(std::log(b))));
    const double w = log_bon_weight(a, b, n);
    EXPECT_LE(w, std::log(n) + (n - 1) * std::log(b) + 1e-12 * n);  // between the limits at both ends
    EXPECT_GE(w, std::log(n) + (n - 1) * std::log(a) - 1e-12 * n * (1 + std::abs(std::log(a))));
  }
  EXPECT_EQ(log_bon_weight(0.0, 0.0, 2.0), -kInf);
  EXPECT_EQ(log_bon_weight(0.0, 0.0, 1.0), 0.0);
  EXPECT_NEAR(log_bon_weight(1.0, 1.0, 7.0), std::log(7.0), 1e-15);
}

// BOND's form, for integer N: p * p_le^(N-1) * sum_i (p_lt/p_le)^(i-1).
TEST(BonWeight, equals_the_collision_sum_for_integer_n) {
  test::Cases cases;
  for (int i = 0; i < 3000; ++i) {
    double a = cases.uniform(), b = cases.uniform();
    if (a > b) std::swap(a, b);
    const int n = 1 + cases.below(40);
    double sum = 0;
    for (int j = 0; j < n; ++j) sum += std::pow(a / b, j);
    EXPECT_NEAR(log_bon_weight(a, b, n), (n - 1) * std::log(b) + std::log(sum), 1e-12 * (1 - n * std::log(b)));
  }
}

TEST(LogPiBon, equals_high_precision_arithmetic) {
  const auto rows = test::golden("bon.json", "strings");
  ASSERT_GT(rows.size(), 100u);
  for (const auto& row : rows) {
    const double log_p = row[0], n = row[2], expected = row[3];
    const double log_f = row[1].is_null() ? -kInf : row[1].get<double>();
    EXPECT_NEAR(log_pi_bon(log_p, log_f, n), expected, rounding(n, log_f, expected) + 1e-15 * n)
        << log_p << " " << log_f << " N=" << n;
  }
  EXPECT_EQ(log_pi_bon(-kInf, -1.0, 3.0), -kInf);
  EXPECT_NEAR(log_pi_bon(-1e4, -0.1, 5.0), -1e4 + std::log(5.0) - 0.4, 1e-11);  // far below the smallest double
}

TEST(LogPiBon, equals_the_binomial_sum) {
  test::Cases cases;
  for (int i = 0; i < 2000; ++i) {
    const double f = cases.uniform(), p = cases.uniform() * (1 - f);
    const int n = 1 + cases.below(20);
    double sum = 0, choose = 1;
    for (int k = 1; k <= n; ++k) {
      choose = choose * (n - k + 1) / k;
      sum += choose * std::pow(f, n - k) * std::pow(p, k);
    }
    EXPECT_NEAR(log_pi_bon(std::log(p), std::log(f), n), std::log(sum), 1e-11);
  }
}

TEST(LogPiBon, is_log_p_plus_weight) {
  test::Cases cases;
  for (int i = 0; i < 2000; ++i) {
    const double f = cases.uniform(1e-3, 0.9), p = (1 - f) * std::exp(-cases.uniform(0, 20));
    const double n = cases.uniform(1, 300);
    const double b = f + p;
    // p enters the weight as b - f, rounded at the size of f: relative error eps f / p.
    EXPECT_NEAR(log_pi_bon(std::log(p), std::log(f), n), std::log(b - f) + log_bon_weight(f, b, n),
                1e-13 * n + 3e-16 * n / p);
  }
}

// Draw N, keep the best, any of the tied: frequencies of a five-string world with a tie.
TEST(BonWeight, tie_formula_agrees_with_simulation) {
  const std::array<double, 5> p = {0.1, 0.3, 0.2, 0.25, 0.15};
  const std::array<double, 5> r = {1, 0, 1, 2, 1};
  test::Cases cases;
  std::discrete_distribution<int> draw(p.begin(), p.end());
  const int n = 3, trials = 400000;
  std::array<double, 5> count{};
  for (int i = 0; i < trials; ++i) {
    std::vector<int> best;
    for (int k = 0; k < n; ++k) {
      const int y = draw(cases.engine);
      if (best.empty() || r[static_cast<std::size_t>(y)] > r[static_cast<std::size_t>(best[0])]) best = {y};
      else if (r[static_cast<std::size_t>(y)] == r[static_cast<std::size_t>(best[0])]) best.push_back(y);
    }
    ++count[static_cast<std::size_t>(best[static_cast<std::size_t>(cases.below(static_cast<int>(best.size())))])];
  }
  for (std::size_t y = 0; y < 5; ++y) {
    double lt = 0, le = 0;
    for (std::size_t k = 0; k < 5; ++k) {
      lt += r[k] < r[y] ? p[k] : 0;
      le += r[k] <= r[y] ? p[k] : 0;
    }
    const double q = p[y] * std::exp(log_bon_weight(lt, std::min(le, 1.0), n));
    EXPECT_NEAR(count[y] / trials, q, 5 * std::sqrt(q * (1 - q) / trials));  // five standard errors
  }
}

TEST(BonClosedForms, equal_their_integrals) {
  for (const double n : {1.0, 1.5, 2.0, 7.3, 64.0}) {
    const int steps = 200000;
    double kl = 0, win = 0, log_f = 0, reverse = 0;
    for (int i = 0; i < steps; ++i) {  // midpoint rule in u, density n u^(n-1)
      const double u = (i + 0.5) / steps, log_w = std::log(n) + (n - 1) * std::log(u), w = std::exp(log_w);
      kl += w * log_w / steps;
      win += w * u / steps;
      log_f += w * std::log(u) / steps;
      reverse -= log_w / steps;
    }
    EXPECT_NEAR(bon_kl(n), kl, 1e-4);
    EXPECT_NEAR(bon_win_rate(n), win, 1e-4);
    EXPECT_NEAR(bon_mean_log_f(n), log_f, 1e-4);
    EXPECT_NEAR(bon_reverse_kl(n), reverse, 1e-3 * n);
  }
}

TEST(Beta, and_n_are_inverse) {
  EXPECT_DOUBLE_EQ(n_from_beta(0.05), 21.0);
  EXPECT_NEAR(n_from_beta(0.3), 1 + 1 / 0.3, 1e-15);
  EXPECT_EQ(beta_from_n(1.0), kInf);
  for (const double n : {1.25, 2.0, 21.0, 4.3333, 512.0}) EXPECT_NEAR(n_from_beta(beta_from_n(n)), n, 1e-12 * n);
}

TEST(TotalOrder, is_by_reward_then_by_tokens) {
  const std::vector<std::int32_t> a = {1, 2}, b = {1, 2, 0}, c = {1, 3};
  EXPECT_TRUE(total_order(0.f, c, 1.f, a) < 0);
  EXPECT_TRUE(total_order(1.f, a, 1.f, b) < 0);  // a prefix first
  EXPECT_TRUE(total_order(1.f, c, 1.f, b) > 0);
  EXPECT_TRUE(total_order(1.f, a, 1.f, a) == 0);
}

TEST(BonClosedForms, win_rate_at_a_kl_inverts_them) {
  for (const double n : {1.0, 1.001, 1.5, 2.0, 10.0, 512.0, 1e6})
    EXPECT_NEAR(bon_win_at_kl(std::log(n) - (n - 1) / n), n / (n + 1), 1e-9 + 1e-5 * (n < 1.01 ? 1 : 0)) << n;
  EXPECT_EQ(bon_win_at_kl(-0.1), 0.5);
  EXPECT_GT(bon_win_at_kl(50), 0.999999);
}

}  // namespace
}  // namespace vbon
