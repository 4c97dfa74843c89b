// The line that foretells log w_N from a prefix, against least squares by hand.
#include "vbon/objective/prefix_value.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace vbon {
namespace {

TEST(PrefixLine, is_least_squares) {
  // numpy.polyfit([0, 1, 2, 4], [.4, .9, 1.1, 2.0], 1) = [0.38857142857142846, 0.42], R2 = .9859275053304905
  const PrefixLine line = fit_prefix_line(std::vector<double>{0, 1, 2, 4}, std::vector<double>{0.4, 0.9, 1.1, 2.0});
  EXPECT_NEAR(line.slope, 0.38857142857142846, 1e-12);
  EXPECT_NEAR(line.intercept, 0.42, 1e-12);
  EXPECT_NEAR(line.value(3), 0.42 + 3 * 0.38857142857142846, 1e-12);
  EXPECT_NEAR(line.r2, 0.9859275053304905, 1e-12);
}

TEST(PrefixLine, neither_falls_nor_exaggerates) {
  EXPECT_EQ(fit_prefix_line({}, {}).value(7), 0.0);
  const PrefixLine falling = fit_prefix_line(std::vector<double>{0, 2}, std::vector<double>{2, 0});
  EXPECT_EQ(falling.slope, 0.0);
  EXPECT_EQ(falling.intercept, 1.0);
  EXPECT_EQ(falling.r2, 0.0);
  const PrefixLine steep = fit_prefix_line(std::vector<double>{-2, -1}, std::vector<double>{-20, -10});
  EXPECT_EQ(steep.slope, 1.0);
  EXPECT_EQ(steep.value(-1.5), -15);  // the mean is kept
  EXPECT_EQ(fit_prefix_line(std::vector<double>{3, 3}, std::vector<double>{1, 2}).value(9), 1.5);
  EXPECT_EQ(fit_prefix_line(std::vector<double>{1, 2}, std::vector<double>{5, 5}).r2, 0.0);
}

}  // namespace
}  // namespace vbon
