// The head recovers the F that rewards were drawn from, on prompts that it has not seen; where embeddings say nothing,
// it says the same for all prompts.
#include "vbon/train/cdf_head.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <random>

#include "vbon/base/error.hpp"
#include "vbon/train/amortise.hpp"

namespace vbon {
namespace {

constexpr std::int64_t kWidth = 6, kSamples = 32;

double sigmoid(double z) { return 1 / (1 + std::exp(-z)); }

// Rewards of prompt p: logistic around 2 + 3 e[0] - e[1], of scale 0.5 e^{0.5 e[2]}.
struct World {
  CdfData data;
  std::vector<float> rewards;
  std::vector<double> mean, scale;

  World(std::int64_t prompts, unsigned seed, bool informative = true) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    std::uniform_real_distribution<double> uniform(1e-9, 1 - 1e-9);
    data.num_prompts = prompts;
    for (std::int64_t p = 0; p < prompts; ++p) {
      std::vector<double> e;
      for (std::int64_t d = 0; d < kWidth; ++d) e.push_back(normal(random));
      mean.push_back(informative ? 2 + 3 * e[0] - e[1] : 2);
      scale.push_back(informative ? 0.5 * std::exp(0.5 * e[2]) : 1);
      for (std::int64_t m = 0; m < kSamples; ++m) {
        const double u = uniform(random);
        rewards.push_back(static_cast<float>(mean.back() + scale.back() * std::log(u / (1 - u))));
      }
      data.embeddings.insert(data.embeddings.end(), e.begin(), e.end());
    }
    data.rewards = rewards;
  }
  // Mean distance of the head's F from the true one, over a grid.
  double error(const CdfHead& head) const {
    double sum = 0, count = 0;
    for (std::int64_t p = 0; p < data.num_prompts; ++p) {
      const LogisticMixture m = head.mixture(data.embedding(p));
      for (double q = -3; q <= 3; q += 0.5, ++count) {
        const auto at = static_cast<std::size_t>(p);
        sum += std::abs(m.cdf(mean[at] + q * scale[at]) - sigmoid(q));
      }
    }
    return sum / count;
  }
};

const CdfFit& fitted() {
  static const World seen(160, 1);
  static const CdfFit fit = fit_cdf_head(seen.data, {.components = 2, .updates = 500, .weight_decay = 0}, 0, 7);
  return fit;
}

TEST(CdfHead, learns_the_distribution_by_prompt) {
  const World unseen(60, 2);
  const CdfFit& fit = fitted();
  EXPECT_GT(fit.updates, 100);
  EXPECT_LT(fit.nll_prompt, fit.nll_marginal - 0.5);
  CdfHead marginal = fit.head;
  std::fill(marginal.weight.begin(), marginal.weight.end(), 0.0);
  EXPECT_LT(unseen.error(fit.head), 0.04);
  EXPECT_GT(unseen.error(marginal), 0.2);
  const Calibration good = calibration_of(fit.head, unseen.data), bad = calibration_of(marginal, unseen.data);
  EXPECT_LT(good.ks, 0.22);  // of 32 uniform draws it is .15
  EXPECT_GT(bad.ks, 2 * good.ks);
  EXPECT_NEAR(good.nll, mean_nll(fit.head, unseen.data), 1e-12);
  std::int64_t all = 0;
  for (const std::int64_t count : good.pit) {
    all += count;
    EXPECT_NEAR(static_cast<double>(count), 60.0 * kSamples / 20, 60) << "flat";
  }
  EXPECT_EQ(all, 60 * kSamples);
}

TEST(CdfHead, is_a_prior_that_helps_most_where_samples_are_few) {
  const World unseen(60, 2);
  const CdfHead& head = fitted().head;
  const auto error = [errors = shrinkage_errors(head, unseen.data)](std::int64_t samples, double weight) {
    for (const ShrinkageError& e : errors)
      if (e.samples == samples && e.weight == weight) return e.rmse;
    return std::nan("");
  };
  EXPECT_LT(error(2, 8), 0.6 * error(2, 0));
  EXPECT_LT(error(16, 8), error(16, 0));
  EXPECT_LT(error(2, 0), 0.3);
  EXPECT_TRUE(std::isnan(error(32, 0))) << "no rest to compare with";
}

TEST(CdfHead, says_the_same_for_all_where_prompts_tell_nothing) {
  const World seen(60, 3, false), unseen(60, 4, false);
  const CdfFit fit = fit_cdf_head(seen.data, {.components = 1, .updates = 100}, 0, 7);
  EXPECT_LT(unseen.error(fit.head), 0.05);
}

TEST(CdfHead, is_deterministic_and_the_same_from_a_file) {
  const World w(40, 5);
  const AmortisedSection config{.components = 3, .updates = 50};
  CdfHead head = fit_cdf_head(w.data, config, 1e-5, 7).head;
  const CdfHead again = fit_cdf_head(w.data, config, 1e-5, 7).head;
  EXPECT_EQ(head.weight, again.weight);
  EXPECT_EQ(head.bias, again.bias);
  head.reference_sha256 = "abc";
  head.made = "of something";
  const std::filesystem::path folder = std::filesystem::path(::testing::TempDir()) / "vbon_cdf_head";
  save_cdf_head(head, folder);
  const CdfHead read = load_cdf_head(folder);
  for (std::int64_t p = 0; p < 40; ++p) {
    const LogisticMixture a = head.mixture(w.data.embedding(p)), b = read.mixture(w.data.embedding(p));
    EXPECT_EQ(a.mean, b.mean);
    EXPECT_EQ(a.scale, b.scale);
    EXPECT_EQ(a.log_weight, b.log_weight);
  }
  EXPECT_EQ(read.made, head.made);
  std::filesystem::remove_all(folder);
  EXPECT_THROW(load_cdf_head(folder), UserError);
}

TEST(CdfHead, refuses_what_holds_no_distribution) {
  const World few(4, 1);
  EXPECT_THROW(fit_cdf_head(few.data, {}, 0, 1), UserError);
  World flat(20, 1);
  std::fill(flat.rewards.begin(), flat.rewards.end(), 1.0f);
  EXPECT_THROW(fit_cdf_head(flat.data, {}, 0, 1), UserError);
  EXPECT_EQ(problems(AmortisedSection{.weight = -1.0}).size(), 2u);
  EXPECT_TRUE(problems(AmortisedSection{}).empty());
}

}  // namespace
}  // namespace vbon
