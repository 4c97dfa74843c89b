#include "vbon/objective/stats.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "unit/objective/golden.hpp"

namespace vbon {
namespace {

TEST(MeanError, of_known_values) {
  const MeanError e = mean_error(std::vector<double>{2, 4, 4, 4, 5, 5, 7, 9});
  EXPECT_DOUBLE_EQ(e.mean, 5);
  EXPECT_DOUBLE_EQ(e.sd, std::sqrt(32.0 / 7));
  EXPECT_DOUBLE_EQ(e.se, std::sqrt(32.0 / 7 / 8));
  EXPECT_EQ(e.count, 8);
  EXPECT_EQ(mean_error(std::vector<double>{3}).se, 0);
}

TEST(BootstrapMean, covers_the_mean_as_often_as_it_says) {
  test::Cases cases;
  int covered = 0;
  const int rounds = 400;
  for (int round = 0; round < rounds; ++round) {
    std::vector<double> values;
    for (int i = 0; i < 60; ++i) values.push_back(cases.normal() + 2);
    const Interval i =
        bootstrap_mean(values, RandomStream(static_cast<std::uint64_t>(round), Purpose::bootstrap), 0.9, 200);
    covered += i.low <= 2 && 2 <= i.high;
  }
  // Percentile intervals of 60 values fall a little short of 90 %; four binomial standard errors are 6 %.
  EXPECT_NEAR(covered / static_cast<double>(rounds), 0.89, 0.06);
}

TEST(BootstrapMean, is_keyed_and_close_to_the_normal_interval) {
  test::Cases cases;
  std::vector<double> values;
  for (int i = 0; i < 400; ++i) values.push_back(cases.normal());
  const RandomStream stream(1, Purpose::bootstrap);
  const Interval a = bootstrap_mean(values, stream), b = bootstrap_mean(values, stream);
  EXPECT_EQ(a.low, b.low);
  EXPECT_EQ(a.high, b.high);
  EXPECT_NE(a.low, bootstrap_mean(values, RandomStream(2, Purpose::bootstrap)).low);
  const MeanError e = mean_error(values);
  EXPECT_NEAR(a.low, e.mean - 1.96 * e.se, 0.15 * e.se);
  EXPECT_NEAR(a.high, e.mean + 1.96 * e.se, 0.15 * e.se);
}

TEST(WinRate, counts_ties_half) {
  const std::vector<float> table = {0, 1, 1, 2};
  EXPECT_DOUBLE_EQ(win_rate(table, 1), 0.5);
  EXPECT_DOUBLE_EQ(win_rate(table, 0), 0.125);
  EXPECT_DOUBLE_EQ(win_rate(table, -1), 0);
  EXPECT_DOUBLE_EQ(win_rate(table, 1.5), 0.75);
  EXPECT_DOUBLE_EQ(win_rate(table, 3), 1);
}

TEST(WinRate, of_the_table_s_own_samples_is_one_half) {
  test::Cases cases;
  std::vector<float> table;
  for (int i = 0; i < 64; ++i) table.push_back(static_cast<float>(cases.below(9)));
  std::sort(table.begin(), table.end());
  double mean = 0;
  for (const float r : table) mean += win_rate(table, r) / 64;
  EXPECT_NEAR(mean, 0.5, 1e-15);
}

TEST(Auc, equals_the_mann_whitney_statistic) {
  for (const auto& golden : test::golden("bon.json", "auc")) {
    const auto scores = golden.at("scores").get<std::vector<double>>();
    const auto labels = golden.at("labels").get<std::vector<std::uint8_t>>();
    EXPECT_NEAR(auc(scores, labels), golden.at("auc").get<double>(), 1e-14);
  }
  EXPECT_TRUE(std::isnan(auc(std::vector<double>{1, 2}, std::vector<std::uint8_t>{1, 1})));
}

TEST(Accuracy, is_the_share_of_right_sides) {
  EXPECT_DOUBLE_EQ(accuracy(std::vector<double>{-1, 0.2, 0.5, 3}, std::vector<std::uint8_t>{0, 1, 0, 1}, 0.3), 0.5);
  EXPECT_DOUBLE_EQ(accuracy(std::vector<double>{-1, 0, 0.5}, std::vector<std::uint8_t>{0, 0, 1}, 0), 1.0);
}

}  // namespace
}  // namespace vbon
