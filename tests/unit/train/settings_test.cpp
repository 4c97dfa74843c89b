#include "vbon/train/settings.hpp"

#include <gtest/gtest.h>

#include <initializer_list>
#include <optional>
#include <string>

namespace vbon {
namespace {

Settings with_rewards(double n, std::initializer_list<double> more, std::optional<double> scale = {}) {
  Settings settings;
  settings.vbon.n = n;
  settings.vbon.scale = scale;
  int number = 0;
  for (const double k : more) settings.rewards["more" + std::to_string(number++)].n = k;
  return settings;
}

double scale_of(const Settings& settings) { return total_scale(settings, settings.vbon); }

TEST(TotalScale, IsOneOverTheSumOfAllWeights) {
  EXPECT_EQ(scale_of(with_rewards(4, {})), 1.0 / 3);
  EXPECT_EQ(scale_of(with_rewards(4, {3})), 1.0 / 5);
  EXPECT_EQ(scale_of(with_rewards(4, {3, 2})), 1.0 / 6);
  EXPECT_EQ(scale_of(with_rewards(1, {3})), 1.0 / 2);
}

TEST(TotalScale, GivenItStaysUnlessNothingIsAskedFor) {
  EXPECT_EQ(scale_of(with_rewards(4, {}, 0.5)), 0.5);
  EXPECT_EQ(scale_of(with_rewards(4, {3}, 0.5)), 0.5);
  EXPECT_EQ(scale_of(with_rewards(1, {3}, 0.5)), 0.5) << "the other reward asks for something";
  EXPECT_EQ(scale_of(with_rewards(1, {}, 0.5)), 0.0);
}

}  // namespace
}  // namespace vbon
