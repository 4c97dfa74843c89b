#include "vbon/base/rng.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <vector>

namespace vbon {
namespace {

// Known answers of the reference implementation (Random123, kat_vectors, philox4x32 10 rounds).
TEST(Philox, matches_the_published_known_answers) {
  using Words = std::array<std::uint32_t, 4>;
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomStream, every_part_of_the_key_matters_and_nothing_else_does) {
  const RandomStream base(7, Purpose::pool, 11, 3);
  EXPECT_EQ(base.words(1, 2, 3), RandomStream(7, Purpose::pool, 11, 3).words(1, 2, 3));
  std::set<std::array<std::uint32_t, 4>> seen = {base.words(1, 2, 3),
                                                 base.words(2, 2, 3),
                                                 base.words(1, 3, 3),
                                                 base.words(1, 2, 4),
                                                 base.words(-1, 2, 3),
                                                 RandomStream(8, Purpose::pool, 11, 3).words(1, 2, 3),
                                                 RandomStream(7, Purpose::rollout, 11, 3).words(1, 2, 3),
                                                 RandomStream(7, Purpose::pool, 12, 3).words(1, 2, 3),
                                                 RandomStream(7, Purpose::pool, 11, 4).words(1, 2, 3)};
  EXPECT_EQ(seen.size(), 9u);
}

TEST(RandomStream, uniform_and_normal_have_their_moments) {
  const RandomStream stream(1, Purpose::bootstrap);
  const int n = 200000;
  double sum = 0, sum_squares = 0, normal_sum = 0, normal_squares = 0;
  for (int i = 0; i < n; ++i) {
    const double u = stream.uniform(i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    sum_squares += u * u;
    const double z = stream.normal(i, 1);
    normal_sum += z;
    normal_squares += z * z;
  }
  // Five standard errors of each mean.
  EXPECT_NEAR(sum / n, 0.5, 5 * std::sqrt(1.0 / 12 / n));
  EXPECT_NEAR(sum_squares / n, 1.0 / 3, 5 * std::sqrt(4.0 / 45 / n));
  EXPECT_NEAR(normal_sum / n, 0.0, 5 / std::sqrt(n));
  EXPECT_NEAR(normal_squares / n, 1.0, 5 * std::sqrt(2.0 / n));
}

TEST(Permutation, holds_each_number_once_and_every_order_is_as_likely) {
  EXPECT_TRUE(permutation(RandomStream(1, Purpose::prompt_order), 0).empty());
  for (const std::int64_t n : {1, 2, 1000}) {
    const auto order = permutation(RandomStream(1, Purpose::prompt_order), n);
    EXPECT_EQ(std::set<std::int64_t>(order.begin(), order.end()).size(), static_cast<std::size_t>(n));
    EXPECT_EQ(order, permutation(RandomStream(1, Purpose::prompt_order), n));
  }
  std::map<std::vector<std::int64_t>, int> counts;
  const int draws = 24000;
  for (int step = 0; step < draws; ++step) ++counts[permutation(RandomStream(3, Purpose::data_order, 0, step), 4)];
  ASSERT_EQ(counts.size(), 24u);
  double chi_square = 0;
  for (const auto& [order, count] : counts)
    chi_square += (count - draws / 24.0) * (count - draws / 24.0) / (draws / 24.0);
  EXPECT_LT(chi_square, 49.7);  // the 99.9 % point with 23 degrees of freedom
}

}  // namespace
}  // namespace vbon
