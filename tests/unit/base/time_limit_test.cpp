#include "vbon/base/time_limit.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vbon {
namespace {

TEST(TimeLimit, without_an_end_it_is_never_near) {
  TimeLimit limit(std::nullopt, 300, 1000);
  limit.step_done(1e12);
  EXPECT_FALSE(limit.is_near(1e12));
}

TEST(TimeLimit, before_a_step_is_known_the_margin_decides) {
  const TimeLimit limit(2000, 300, 1000);
  EXPECT_FALSE(limit.is_near(1700));
  EXPECT_TRUE(limit.is_near(1700.5));
  EXPECT_TRUE(limit.is_near(2500)) << "an end that is over is near";
}

TEST(TimeLimit, the_longest_step_so_far_has_to_fit_before_the_margin) {
  TimeLimit limit(2000, 300, 1000);
  limit.step_done(1100);  // 100 s
  limit.step_done(1110);
  EXPECT_FALSE(limit.is_near(1600));
  EXPECT_TRUE(limit.is_near(1601));
  limit.step_done(1350);  // 240 s
  EXPECT_FALSE(limit.is_near(1460));
  EXPECT_TRUE(limit.is_near(1461));
}

TEST(TimeLimit, says_why) {
  TimeLimit limit(2000, 300, 1000);
  limit.step_done(1012);
  const std::string text = limit.reason(1700);
  for (const char* word : {"5m00s", "checkpoint.before_end", "12.0s"}) EXPECT_THAT(text, ::testing::HasSubstr(word));
}

}  // namespace
}  // namespace vbon
