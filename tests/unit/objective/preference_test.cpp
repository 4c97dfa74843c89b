#include "vbon/objective/preference.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "unit/objective/golden.hpp"

namespace vbon {
namespace {

using Json = nlohmann::json;

double margin_of(const Json& pair) {
  return (pair["chosen"].get<double>() - pair["ref_chosen"].get<double>()) -
         (pair["rejected"].get<double>() - pair["ref_rejected"].get<double>());
}

TEST(Preference, dpo_is_that_of_trl) {
  for (const Json& pair : test::golden("preference.json", "dpo")) {
    const PairLoss ours = dpo_loss(margin_of(pair), pair["beta"], pair["label_smoothing"]);
    EXPECT_NEAR(ours.loss, pair["loss"].get<double>(), 1e-12);
    EXPECT_NEAR(ours.slope, pair["chosen_gradient"].get<double>(), 1e-12);
    EXPECT_NEAR(-ours.slope, pair["rejected_gradient"].get<double>(), 1e-12);
  }
}

// TRL divides each log ratio by its response's length; the margin of sums is the case of length 1.
TEST(Preference, ipo_is_that_of_trl) {
  for (const Json& pair : test::golden("preference.json", "ipo")) {
    const double of_chosen = pair["lengths"][0], of_rejected = pair["lengths"][1];
    const double margin = (pair["chosen"].get<double>() - pair["ref_chosen"].get<double>()) / of_chosen -
                          (pair["rejected"].get<double>() - pair["ref_rejected"].get<double>()) / of_rejected;
    const PairLoss ours = ipo_loss(margin, pair["beta"]);
    EXPECT_NEAR(ours.loss, pair["loss"].get<double>(), 1e-10);
    EXPECT_NEAR(ours.slope / of_chosen, pair["chosen_gradient"].get<double>(), 1e-10);
    EXPECT_NEAR(-ours.slope / of_rejected, pair["rejected_gradient"].get<double>(), 1e-10);
  }
}

TEST(Preference, slic_is_that_of_trl) {
  int beyond = 0;
  for (const Json& pair : test::golden("preference.json", "slic")) {
    const PairLoss ours = slic_loss(margin_of(pair), pair["beta"]);
    beyond += ours.loss == 0 ? 1 : 0;
    EXPECT_NEAR(ours.loss, pair["loss"].get<double>(), 1e-5);
    EXPECT_NEAR(ours.slope, pair["chosen_gradient"].get<double>(), 1e-6);
    EXPECT_NEAR(-ours.slope, pair["rejected_gradient"].get<double>(), 1e-6);
  }
  EXPECT_GE(beyond, 1) << "on both sides of the hinge";
}

TEST(Preference, margins_that_overflow_an_exponential) {
  for (const double margin : {-5000.0, 5000.0}) {
    const PairLoss wrong = dpo_loss(-std::abs(margin), 1, 0), right = dpo_loss(std::abs(margin), 1, 0);
    EXPECT_EQ(wrong.loss, 5000);
    EXPECT_EQ(wrong.slope, -1);
    EXPECT_EQ(right.loss, 0);
    EXPECT_EQ(right.slope, 0);
  }
}

}  // namespace
}  // namespace vbon
