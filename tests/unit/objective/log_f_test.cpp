#include "vbon/objective/log_f.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "unit/objective/golden.hpp"
#include "vbon/base/error.hpp"
#include "vbon/objective/bon.hpp"

namespace vbon {
namespace {

constexpr std::array kEstimators = {Estimator::add_one, Estimator::harmonic, Estimator::interpolated,
                                    Estimator::exponential};

std::vector<float> sorted_normals(test::Cases& cases, int m, double round_to = 0) {
  std::vector<float> rewards;
  for (int i = 0; i < m; ++i) {
    const double r = cases.normal();
    rewards.push_back(static_cast<float>(round_to > 0 ? std::round(r / round_to) * round_to : r));
  }
  std::sort(rewards.begin(), rewards.end());
  return rewards;
}

double harmonic_number(int k) {
  double h = 0;
  for (int j = 1; j <= k; ++j) h += 1.0 / j;
  return h;
}

TEST(LogFTable, golden_values_of_a_table_with_a_tie) {
  const std::vector<float> rewards = {1, 2, 2};
  const auto counts = count_in_table(rewards, 2);
  EXPECT_EQ(counts.lt, 1);
  EXPECT_EQ(counts.le, 3);
  const LogF add_one = LogFTable(rewards, 1, Estimator::add_one).of(0, 2);
  EXPECT_DOUBLE_EQ(add_one.log_f, std::log(0.5));
  EXPECT_DOUBLE_EQ(add_one.exact.f_strict, 0.25);
  EXPECT_DOUBLE_EQ(add_one.exact.f, 1.0);
  EXPECT_DOUBLE_EQ(LogFTable(rewards, 1, Estimator::harmonic).of(0, 2).log_f, 1.0 - (1.0 + 0.5 + 1.0 / 3));
}

TEST(LogFTable, floors_ceilings_and_flags) {
  const std::vector<float> rewards = {-1, 0, 1, 3};
  for (const Estimator e : kEstimators) {
    const LogFTable table(rewards, 1, e);
    const LogF low = table.of(0, -5), first = table.of(0, -1), middle = table.of(0, 0.5), high = table.of(0, 9);
    EXPECT_TRUE(low.at_floor && first.at_floor && !middle.at_floor && !high.at_floor);
    EXPECT_TRUE(high.at_ceiling && !middle.at_ceiling && !first.at_ceiling && !low.at_ceiling);
    EXPECT_TRUE(std::isfinite(low.log_f) && low.log_f < 0);
    EXPECT_LE(high.log_f, 0);
    EXPECT_GT(high.log_f, std::log(0.8));
  }
  EXPECT_DOUBLE_EQ(LogFTable(rewards, 1, Estimator::add_one).of(0, -5).log_f, -std::log(5.0));
  EXPECT_DOUBLE_EQ(LogFTable(rewards, 1, Estimator::add_one).of(0, 9).log_f, 0);
  EXPECT_DOUBLE_EQ(LogFTable(rewards, 1, Estimator::harmonic).of(0, -5).log_f, -harmonic_number(4));
  EXPECT_DOUBLE_EQ(LogFTable(rewards, 1, Estimator::interpolated).of(0, -1e30f).log_f, -2 * std::log(5.0));
}

TEST(LogFTable, every_estimator_is_finite_never_positive_and_never_decreases) {
  test::Cases cases;
  for (int i = 0; i < 300; ++i) {
    const int m = 1 + cases.below(80);
    const auto rewards = sorted_normals(cases, m, i % 3 == 0 ? 0.5 : 0);
    for (const Estimator e : kEstimators) {
      const LogFTable table(rewards, 1, e);
      double last = -1e300;
      for (float r = -6; r <= 6; r += 0.037f) {
        const double log_f = table.of(0, r).log_f;
        ASSERT_TRUE(std::isfinite(log_f));
        ASSERT_LE(log_f, 0);
        ASSERT_GE(log_f, last - 1e-14) << "estimator " << enum_name(e) << " at " << r;
        last = log_f;
      }
      for (const float r : {-1e38f, 1e38f}) ASSERT_TRUE(std::isfinite(table.of(0, r).log_f));
    }
  }
}

TEST(LogFTable, constant_and_extreme_tables_do_no_harm) {
  const std::vector<std::vector<float>> tables = {
      {2, 2, 2, 2}, {7}, {-3e38f, 3e38f}, {0, 0, 0, 1e-30f}, {-1e30f, 0, 0.1f, 0.2f, 0.3f}, {0, 0.1f, 0.2f, 1e30f}};
  for (const auto& rewards : tables)
    for (const Estimator e : kEstimators) {
      const LogFTable table(rewards, 1, e);
      for (const float r : {-3e38f, -1.f, 0.f, 0.15f, 2.f, 3e38f}) {
        EXPECT_TRUE(std::isfinite(table.of(0, r).log_f)) << enum_name(e) << " " << rewards[0] << " " << r;
        EXPECT_LE(table.of(0, r).log_f, 0);
      }
    }
  const LogFTable constant(tables[0], 1, Estimator::exponential), add_one(tables[0], 1, Estimator::add_one);
  for (const float r : {1.f, 2.f, 3.f}) EXPECT_EQ(constant.of(0, r).log_f, add_one.of(0, r).log_f);
}

TEST(LogFTable, interpolated_is_add_one_at_the_table_and_straight_between) {
  const std::vector<float> rewards = {0, 1, 3, 3, 3, 7};
  const LogFTable table(rewards, 1, Estimator::interpolated), add_one(rewards, 1, Estimator::add_one);
  for (const float r : rewards) EXPECT_NEAR(table.of(0, r).log_f, add_one.of(0, r).log_f, 1e-15);
  EXPECT_NEAR(std::exp(table.of(0, 0.25f).log_f), (1 + 0.25) / 7, 1e-15);
  EXPECT_NEAR(std::exp(table.of(0, 2).log_f), (2 + 0.5) / 7, 1e-15);
  EXPECT_NEAR(std::exp(table.of(0, 4).log_f), (5 + 0.25) / 7, 1e-15);  // the whole tie lies below
  // Top: mean excess of the two highest (floor of sqrt 6) over the third: ((7-3) + (3-3)) / 2 = 2.
  EXPECT_NEAR(std::exp(table.of(0, 9).log_f), (6 + 1 - std::exp(-1.0)) / 7, 1e-15);
  // Bottom: mean of (3-0), (3-1) = 2.5.
  EXPECT_NEAR(table.of(0, -1).log_f, -std::log(7.0) - 1 / 2.5, 1e-15);
}

TEST(ExponentialFit, finds_scipy_s_least_squares) {
  const auto fits = test::golden("bon.json", "fits");
  ASSERT_EQ(fits.size(), 6u);
  for (const auto& golden : fits) {
    const auto rewards = golden.at("rewards").get<std::vector<float>>();
    const ExponentialFit fit = fit_exponential(rewards);
    const double rate = golden.at("rate");
    EXPECT_NEAR(fit.rate, rate, 1e-5 * rate);  // scipy stops where the cost is flat to ~1e-14, the rate to its root
    double cost = 0;
    for (const float r : rewards) {
      const double y = std::log((static_cast<double>(count_in_table(rewards, r).lt) + 1) /
                                (static_cast<double>(rewards.size()) + 1));
      cost += (y - fit(r)) * (y - fit(r));
    }
    EXPECT_LE(cost, golden.at("cost").get<double>() * (1 + 1e-9));
    for (std::size_t i = 0; i < golden.at("x").size(); ++i) {
      const double y = golden.at("y")[i];
      EXPECT_NEAR(fit(golden.at("x")[i]), y, 1e-4 * std::abs(y));
    }
  }
}

// Bias and standard deviation by exact binomial sums, against the published table of method.md 5.1.
TEST(Estimators, have_the_known_bias_and_spread) {
  struct Row {
    int m;
    double f, add_one_bias, add_one_sd, harmonic_bias, harmonic_sd;  // NaN: not published
  };
  const double none = std::numeric_limits<double>::quiet_NaN();
  for (const Row& row :
       {Row{100, .02, .277, .508, .047, .650}, Row{100, .1, .0455, .291, 0, .308}, Row{100, .5, .0050, none, 0, none},
        Row{32, .1, .149, none, .008, none}, Row{600, .02, .041, none, 0, none}}) {
    std::vector<float> rewards(static_cast<std::size_t>(row.m));
    std::iota(rewards.begin(), rewards.end(), 0.f);
    const auto moments = [&](Estimator e) {
      const LogFTable table(rewards, 1, e);
      double mean = 0, squares = 0;
      for (int k = 0; k <= row.m; ++k) {  // K ~ Binomial(M, F); a reward of k - 1/2 has K = k below it
        const double log_probability = std::lgamma(row.m + 1) - std::lgamma(k + 1) - std::lgamma(row.m - k + 1) +
                                       k * std::log(row.f) + (row.m - k) * std::log1p(-row.f);
        const double value = table.of(0, static_cast<float>(k) - 0.5f).log_f;
        mean += std::exp(log_probability) * value;
        squares += std::exp(log_probability) * value * value;
      }
      return std::pair{mean - std::log(row.f), std::sqrt(squares - mean * mean)};
    };
    const auto [add_bias, add_sd] = moments(Estimator::add_one);
    const auto [harmonic_bias, harmonic_sd] = moments(Estimator::harmonic);
    EXPECT_NEAR(add_bias, row.add_one_bias, 6e-4);  // printed to three digits
    EXPECT_NEAR(harmonic_bias, row.harmonic_bias, 6e-4);
    if (!std::isnan(row.add_one_sd)) {
      EXPECT_NEAR(add_sd, row.add_one_sd, 6e-4);
      EXPECT_NEAR(harmonic_sd, row.harmonic_sd, 6e-4);
    }
    // The closed form of the bias: sum_{j>M} (1-F)^j / j.
    double tail = 0;
    for (int j = row.m + 1; j < row.m + 20000; ++j) tail += std::pow(1 - row.f, j) / j;
    EXPECT_NEAR(harmonic_bias, tail, 1e-9);
  }
}

TEST(Estimators, converge_to_log_f_as_the_table_grows) {
  test::Cases cases;
  const auto rewards = sorted_normals(cases, 100000);
  for (const Estimator e : {Estimator::add_one, Estimator::harmonic, Estimator::interpolated}) {
    const LogFTable table(rewards, 1, e);
    for (const double x : {-1.5, -0.3, 0.0, 1.2, 2.5}) {
      const double f = 0.5 * std::erfc(-x / std::sqrt(2.0));
      // Five standard errors of log of a binomial share, and the estimators' own bias of order 1 / (M F).
      const double tolerance = 5 * std::sqrt((1 - f) / (f * 1e5)) + 1e-4;
      EXPECT_NEAR(table.of(0, static_cast<float>(x)).log_f, std::log(f), tolerance);
    }
  }
  // The exponential curve is the right family for Gumbel rewards: F = exp(-exp(-(x - 1) / 2)).
  std::vector<float> gumbels;
  for (int i = 0; i < 100000; ++i) gumbels.push_back(static_cast<float>(1 - 2 * std::log(-std::log(cases.uniform()))));
  std::sort(gumbels.begin(), gumbels.end());
  const LogFTable table(gumbels, 1, Estimator::exponential);
  for (const float x : {-1.f, 0.f, 2.f, 6.f}) {
    const double log_f = -std::exp(-(x - 1) / 2);
    EXPECT_NEAR(table.of(0, x).log_f, log_f, 0.05 * -log_f);
  }
}

// The optimum of L with a table, q(u) ~ F-hat(u)^(N-1), against true BoN, at fewer samples than N: steps lose most.
TEST(Estimators, interpolation_brings_the_optimum_of_l_nearer_to_bon) {
  test::Cases cases;
  const double n = 100;
  const int grid = 4000, tables = 20;
  std::vector<float> quantile;  // of the normal distribution at (i + .5) / grid
  for (int i = 0; i < grid; ++i) {
    double low = -6, high = 6;
    for (int k = 0; k < 50; ++k) {
      const double middle = (low + high) / 2;
      (0.5 * std::erfc(-middle / std::sqrt(2.0)) < (i + 0.5) / grid ? low : high) = middle;
    }
    quantile.push_back(static_cast<float>(low));
  }
  double add_one = 0, interpolated = 0;
  for (int t = 0; t < tables; ++t) {
    const auto rewards = sorted_normals(cases, 32);
    const auto distance = [&](Estimator e) {
      const LogFTable table(rewards, 1, e);
      double total = 0, mean = 0;
      for (int i = 0; i < grid; ++i) {
        const double q = std::exp((n - 1) * table.of(0, quantile[static_cast<std::size_t>(i)]).log_f);
        total += q / grid;
        mean += q / grid * (std::log(q) - std::log(n) - (n - 1) * std::log((i + 0.5) / grid));
      }
      return mean / total - std::log(total);
    };
    add_one += distance(Estimator::add_one) / tables;
    interpolated += distance(Estimator::interpolated) / tables;
  }
  EXPECT_GT(add_one, 0.5);
  EXPECT_LT(interpolated, 0.75 * add_one);
}

TEST(ExactQuantiles, give_weights_of_mean_one_over_exchangeable_samples) {
  test::Cases cases;
  for (int i = 0; i < 500; ++i) {
    // M + 1 exchangeable samples, each in turn the new one against the other M.
    const int m = 2 + cases.below(40);
    const auto all = sorted_normals(cases, m + 1, i % 2 == 0 ? 0.4 : 0);
    const double n = 1 + std::exp(cases.uniform(-3, 5));
    double mean_new = 0, mean_own = 0;
    const LogFTable whole(all, 1, Estimator::add_one);
    for (std::size_t k = 0; k < all.size(); ++k) {
      std::vector<float> others = all;
      others.erase(others.begin() + static_cast<std::ptrdiff_t>(k));
      const Quantiles q = exact_quantiles(count_in_table(others, all[k]), m);
      mean_new += std::exp(log_bon_weight(q.f_strict, q.f, n)) / (m + 1);
      const Quantiles own = whole.of_own(0, all[k]).exact;
      mean_own += std::exp(log_bon_weight(own.f_strict, own.f, n)) / (m + 1);
      EXPECT_EQ(q.f_strict, own.f_strict);
      EXPECT_EQ(q.f, own.f);
    }
    EXPECT_NEAR(mean_new, 1, 1e-11);
    EXPECT_NEAR(mean_own, 1, 1e-11);
  }
}

TEST(LogFTable, leave_one_out_equals_the_table_without_the_sample) {
  test::Cases cases;
  for (int i = 0; i < 400; ++i) {
    const int m = 2 + cases.below(30);
    const auto rewards = sorted_normals(cases, m, i % 2 == 0 ? 0.5 : 0);
    for (const Estimator e : {Estimator::add_one, Estimator::harmonic, Estimator::interpolated}) {
      const LogFTable table(rewards, 1, e);
      for (std::size_t k = 0; k < rewards.size(); ++k) {
        std::vector<float> others = rewards;
        others.erase(others.begin() + static_cast<std::ptrdiff_t>(k));
        const LogFTable rest(others, 1, e);
        const LogF own = table.of_own(0, rewards[k]), fresh = rest.of(0, rewards[k]);
        EXPECT_EQ(own.at_floor, fresh.at_floor);
        EXPECT_EQ(own.at_ceiling, fresh.at_ceiling);
        // The tails keep the sample (documented), everything between the table's ends does not.
        const bool in_tail = fresh.at_ceiling || (fresh.at_floor && others.front() != rewards[k]);
        if (e != Estimator::interpolated || !in_tail) {
          EXPECT_EQ(own.log_f, fresh.log_f) << enum_name(e);
        } else {
          EXPECT_TRUE(std::isfinite(own.log_f));
        }
      }
    }
  }
}

TEST(LogFTable, ranks_decide_alone_in_add_one_harmonic_and_exact) {
  test::Cases cases;
  const std::vector<float (*)(float)> maps = {[](float x) { return 3.f * x - 7.f; },
                                              [](float x) { return std::exp(x); }, [](float x) { return std::atan(x); },
                                              [](float x) { return x * x * x; }};
  int compared = 0;
  for (int i = 0; i < 200; ++i) {
    const int m = 1 + cases.below(60);
    const auto rewards = sorted_normals(cases, m, 0.01);
    std::vector<float> queries = sorted_normals(cases, 20, 0.01);
    for (const auto map : maps) {
      std::vector<float> all = rewards, mapped;
      all.insert(all.end(), queries.begin(), queries.end());
      std::sort(all.begin(), all.end());
      all.erase(std::unique(all.begin(), all.end()), all.end());
      bool increasing = true;  // strictly, after rounding to float32
      for (std::size_t k = 1; k < all.size(); ++k) increasing = increasing && map(all[k - 1]) < map(all[k]);
      if (!increasing) continue;
      for (const float r : rewards) mapped.push_back(map(r));
      for (const Estimator e : {Estimator::add_one, Estimator::harmonic}) {
        const LogFTable before(rewards, 1, e), after(mapped, 1, e);
        for (const float r : queries) {
          const LogF a = before.of(0, r), b = after.of(0, map(r));
          EXPECT_EQ(a.log_f, b.log_f);
          EXPECT_EQ(log_bon_weight(a.exact.f_strict, a.exact.f, 4.5), log_bon_weight(b.exact.f_strict, b.exact.f, 4.5));
          ++compared;
        }
      }
    }
  }
  EXPECT_GT(compared, 10000);
}

TEST(LogFTable, rows_of_several_prompts_are_their_own) {
  const std::vector<float> rewards = {0, 1, 2, 10, 20, 30};
  for (const Estimator e : kEstimators) {
    const LogFTable both(rewards, 2, e), second(std::span<const float>(rewards).subspan(3), 1, e);
    EXPECT_EQ(both.num_samples(), 3);
    for (const float r : {5.f, 15.f, 40.f}) EXPECT_EQ(both.of(1, r).log_f, second.of(0, r).log_f);
    EXPECT_TRUE(both.of(0, 5).at_ceiling);
    EXPECT_THROW(both.of(2, 0), InternalError);
  }
}

TEST(LogFTable, damaged_rows_are_refused) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (const std::vector<float>& rewards : {std::vector<float>{0, 2, 1}, {0, 1, nan}, {nan, 0, 1}, {-inf, 0, 1}})
    EXPECT_THROW(LogFTable(rewards, 1, Estimator::add_one), UserError);
  EXPECT_THROW(LogFTable(std::vector<float>{0, 1}, 1, Estimator::add_one).of(0, nan), InternalError);
}

TEST(CountInTotalOrder, breaks_ties_by_tokens) {
  const std::vector<float> rewards = {1, 2, 2, 2};
  const std::vector<std::int32_t> tokens = {9, 9, -1, 5, 1, -1, 5, -1, -1, 5, 2, 7};
  const std::vector<std::int32_t> lengths = {2, 2, 1, 3};
  const auto counts = [&](float r, std::vector<std::int32_t> y) {
    const TableCounts c = count_in_total_order(rewards, tokens, lengths, r, y);
    return std::pair{c.lt, c.le};
  };
  EXPECT_EQ(counts(2, {5, 1}), (std::pair<std::int64_t, std::int64_t>{2, 3}));  // equals one string of the pool
  EXPECT_EQ(counts(2, {5, 1, 0}), (std::pair<std::int64_t, std::int64_t>{3, 3}));
  EXPECT_EQ(counts(2, {0}), (std::pair<std::int64_t, std::int64_t>{1, 1}));
  EXPECT_EQ(counts(3, {0}), (std::pair<std::int64_t, std::int64_t>{4, 4}));
  EXPECT_EQ(counts(1, {9, 9}), (std::pair<std::int64_t, std::int64_t>{0, 1}));
}

}  // namespace
}  // namespace vbon
