#include "vbon/objective/bon_curve.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <vector>

#include "unit/objective/golden.hpp"
#include "vbon/objective/bon.hpp"

namespace vbon {
namespace {

struct BruteForce {
  std::vector<double> weight;  // of each sample to be chosen, ties sharing
  double reward = 0, win = 0;
};

// All subsets of N samples; the best against every sample outside.
BruteForce all_subsets(const std::vector<float>& r, int n) {
  const auto m = static_cast<int>(r.size());
  BruteForce b{.weight = std::vector<double>(r.size())};
  double subsets = 0;
  for (unsigned set = 0; set < (1u << m); ++set) {
    if (std::popcount(set) != n) continue;
    ++subsets;
    float best = -1e30f;
    for (int i = 0; i < m; ++i)
      if ((set >> i & 1u) != 0) best = std::max(best, r[static_cast<std::size_t>(i)]);
    double tied = 0, wins = 0;
    for (int i = 0; i < m; ++i) {
      const float x = r[static_cast<std::size_t>(i)];
      if ((set >> i & 1u) != 0) tied += x == best;
      else wins += best > x ? 1 : (best == x ? 0.5 : 0);
    }
    for (int i = 0; i < m; ++i)
      if ((set >> i & 1u) != 0 && r[static_cast<std::size_t>(i)] == best)
        b.weight[static_cast<std::size_t>(i)] += 1 / tied;
    b.reward += best;
    if (n < m) b.win += wins / (m - n);
  }
  for (double& w : b.weight) w /= subsets;
  b.reward /= subsets;
  b.win /= subsets;
  return b;
}

TEST(BonOfPool, equals_brute_force_over_all_subsets) {
  test::Cases cases;
  for (int round = 0; round < 40; ++round) {
    std::vector<float> r;
    for (int i = 0; i < 8; ++i) r.push_back(static_cast<float>(round % 2 == 0 ? cases.below(4) : cases.normal()));
    for (int n = 1; n <= 8; ++n) {
      const BruteForce expected = all_subsets(r, n);
      const auto weights = bon_weights(r, n);
      const BonOfPool of = bon_of_pool(r, n);
      double tie_share = 0;  // tied samples are interchangeable, so compare the mass of each reward and equal shares
      for (std::size_t i = 0; i < r.size(); ++i) {
        double mass = 0, expected_mass = 0, ties = 0;
        for (std::size_t k = 0; k < r.size(); ++k)
          if (r[k] == r[i]) mass += weights[k], expected_mass += expected.weight[k], ++ties;
        EXPECT_NEAR(mass, expected_mass, 1e-14);
        EXPECT_NEAR(weights[i], mass / ties, 1e-14);
        tie_share += weights[i];
      }
      EXPECT_NEAR(tie_share, 1, 1e-14);
      EXPECT_NEAR(of.reward, expected.reward, 1e-12);
      if (n < 8) {
        EXPECT_NEAR(of.win, expected.win, 1e-14);
      }
    }
  }
}

TEST(BonWeights, are_binomial_ratios_for_integers_and_powers_for_reals) {
  std::vector<float> r(12);
  std::iota(r.begin(), r.end(), 0.f);
  const auto choose = [](int n, int k) {
    return k < 0 || k > n ? 0.0 : std::exp(std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1));
  };
  for (int n = 1; n <= 12; ++n) {
    const auto w = bon_weights(r, n);
    for (int i = 1; i <= 12; ++i)
      EXPECT_NEAR(w[static_cast<std::size_t>(i - 1)], choose(i - 1, n - 1) / choose(12, n), 1e-12);
  }
  for (const double n : {1.5, 2.5, 13.0, 40.0}) {
    const auto w = bon_weights(r, n);
    for (int i = 1; i <= 12; ++i)
      EXPECT_NEAR(w[static_cast<std::size_t>(i - 1)], std::pow(i / 12.0, n) - std::pow((i - 1) / 12.0, n), 1e-15);
    EXPECT_GE(*std::min_element(w.begin(), w.end()), 0);  // the binomial form would go below 0
  }
}

TEST(BonWeights, large_pools_and_n_stay_exact) {
  std::vector<float> r(20000);
  std::iota(r.begin(), r.end(), 0.f);
  for (const double n : {1.0, 16.0, 1000.0, 19999.0, 20000.0, 777.5}) {
    const auto w = bon_weights(r, n);
    EXPECT_NEAR(std::accumulate(w.begin(), w.end(), 0.0), 1, 1e-12);
    if (n == std::round(n)) {
      EXPECT_NEAR(w.back(), n / 20000, 1e-12);
    }
    EXPECT_GE(*std::min_element(w.begin(), w.end()), 0);
  }
}

// Untied pools: the win rate of the subset estimator is N/(N+1) whatever the rewards, where the whole-pool comparison
// that it replaces gives .8095 and .9552 at M = 64.
TEST(BonOfPool, win_rate_of_untied_pools_is_the_closed_form) {
  std::vector<float> r(64);
  std::iota(r.begin(), r.end(), 0.f);
  for (const int n : {1, 2, 4, 16, 63}) EXPECT_NEAR(bon_of_pool(r, n).win, bon_win_rate(n), 1e-13);
  for (const double n : {1.5, 2.5, 10.3}) EXPECT_NEAR(bon_of_pool(r, n).win, bon_win_rate(n), 0.5 / 64);
}

TEST(BonOfPool, kl_tends_to_the_closed_form_from_below) {
  for (const double n : {2.0, 4.0, 16.0, 2.5}) {
    std::vector<float> r(4096);
    std::iota(r.begin(), r.end(), 0.f);
    const double kl = bon_of_pool(r, n).kl;
    EXPECT_LT(kl, bon_kl(n));
    EXPECT_NEAR(kl, bon_kl(n), 1e-4);  // cells of width 1/M hide (N-1)^2 / (24 M^2) of it, more in the lowest cells
  }
}

// Binary reward with p = .5: F_strict = 0 or .5; the win rate .719 of method.md section 7.
TEST(BonOfPool, ties_bring_kl_and_win_below_the_bounds) {
  std::vector<float> r(2000, 0.f);
  std::fill(r.begin() + 1000, r.end(), 1.f);
  const BonOfPool of = bon_of_pool(r, 4);
  const double best = 1 - std::pow(0.5, 4);  // P(some draw is 1)
  EXPECT_NEAR(of.reward, best, 2e-3);        // drawing without replacement
  EXPECT_NEAR(of.win, best * 0.75 + (1 - best) * 0.25, 1e-3);
  EXPECT_NEAR(of.win, 0.719, 1e-3);
  EXPECT_NEAR(of.kl, best * std::log(2 * best) + (1 - best) * std::log(2 * (1 - best)), 1e-12);
  EXPECT_LT(of.kl, bon_kl(4));
  EXPECT_LT(of.win, bon_win_rate(4));
}

TEST(BonOfPool, constant_rewards_win_half_at_kl_zero) {
  const BonOfPool of = bon_of_pool(std::vector<float>(10, 3.f), 5);
  EXPECT_NEAR(of.win, 0.5, 1e-15);
  EXPECT_NEAR(of.kl, 0, 1e-15);
  EXPECT_NEAR(of.reward, 3, 1e-6);
}

// The estimators are unbiased: many small pools of one discrete world against its enumeration.
TEST(BonOfPool, is_unbiased_over_pools) {
  const std::vector<double> p = {0.2, 0.3, 0.1, 0.4};  // of rewards 0, 1, 2, 3
  const int n = 3, m = 5, pools = 40000;
  double cumulative = 0, reward = 0, win = 0;
  for (std::size_t y = 0; y < p.size(); ++y) {
    const double q = std::pow(cumulative + p[y], n) - std::pow(cumulative, n);
    reward += q * static_cast<double>(y);
    win += q * (cumulative + p[y] / 2);
    cumulative += p[y];
  }
  test::Cases cases;
  std::discrete_distribution<int> draw(p.begin(), p.end());
  std::vector<float> r;
  for (int i = 0; i < pools * m; ++i) r.push_back(static_cast<float>(draw(cases.engine)));
  const BonPoint point = bon_point(r, pools, n);
  EXPECT_NEAR(point.reward.mean, reward, 5 * point.reward.se);
  EXPECT_NEAR(point.win.mean, win, 5 * point.win.se);
  EXPECT_LT(point.win.se, 2e-3);
  EXPECT_EQ(point.win.count, pools);
}

}  // namespace
}  // namespace vbon
