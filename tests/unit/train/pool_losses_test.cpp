// Offline methods against autograd of their losses written out, over whole epochs; on one rank and on two.
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include "unit/train/pool_fixture.hpp"
#include "vbon/base/error.hpp"
#include "vbon/objective/bonbon.hpp"

namespace vbon {
namespace {

using test::kM;
using test::kPool;
using test::kRewards;

constexpr std::size_t kPrompts = kPool / kM;

test::PoolFixture fixture_of(Method method, double n = 2) {
  test::PoolFixture f;
  f.settings.train.method = method;
  f.settings.vbon.n = n;
  f.settings.bon_sft.batch = f.settings.preference.batch = f.settings.bonbon.batch = 1000;
  f.settings.preference.generations = f.settings.preference.pairs = f.settings.bonbon.pairs = 0;
  return f;
}

// One update on the whole epoch.
void expect_gradient(test::PoolFixture& f, const at::Tensor& loss) {
  const at::Tensor want = f.gradient_of(loss);
  const Metrics m = f.step(0);
  EXPECT_LE(test::relative_difference(f.learner->parallel->moments().first, want), 2e-5);
  EXPECT_NEAR(m.at("loss"), loss.item<double>(), 1e-4 * std::abs(loss.item<double>()));
}

// Probability of each of three samples to be the best of two, ties shared, by listing the three pairs.
std::array<double, kM> best_of_two(std::size_t row) {
  std::array<double, kM> weight{};
  for (std::size_t a = 0; a < kM; ++a)
    for (std::size_t b = a + 1; b < kM; ++b) {
      const float ra = kRewards[row * kM + a], rb = kRewards[row * kM + b];
      weight[a] += (ra > rb ? 1 : ra == rb ? 0.5 : 0) / 3;
      weight[b] += (rb > ra ? 1 : ra == rb ? 0.5 : 0) / 3;
    }
  return weight;
}

TEST(BonSft, weighted_is_the_expectation_over_all_subsets) {
  test::PoolFixture f = fixture_of(Method::bon_sft);
  at::Tensor loss;
  for (std::size_t i = 0; i < kPool; ++i) {
    const at::Tensor term = f.logp(i) * (-best_of_two(i / kM)[i % kM] / kPrompts);
    loss = loss.defined() ? loss + term : term;
  }
  expect_gradient(f, loss);
}

// Smaller updates add up to the same epoch.
TEST(BonSft, an_epoch_of_small_updates_is_the_whole) {
  test::PoolFixture whole = fixture_of(Method::bon_sft), parts = fixture_of(Method::bon_sft);
  whole.step(0);
  const at::Tensor want = whole.learner->parallel->moments().first.clone();
  parts.settings.bon_sft.batch = 1;
  std::int64_t updates = 0;
  for (std::size_t i = 0; i < kPool; ++i) updates += best_of_two(i / kM)[i % kM] > 0 ? 1 : 0;
  at::Tensor sum = at::zeros_like(want);
  for (std::int64_t u = 0; u < updates; ++u) {
    parts.step(u);
    sum += parts.learner->parallel->moments().first / static_cast<double>(updates);
  }
  EXPECT_LE(test::relative_difference(sum, want), 2e-5);
}

TEST(BonSft, drawn_samples_are_best_as_often_as_their_weight_says) {
  test::PoolFixture f = fixture_of(Method::bon_sft);
  f.settings.bon_sft.best = BestOf::drawn;
  const std::unique_ptr<PoolLoss> loss = make_pool_loss(Method::bon_sft, f.settings, f.pool, *f.table);
  EXPECT_EQ(loss->samples_an_update(), static_cast<std::int64_t>(kPrompts));
  std::array<double, kPool> count{};
  constexpr int kEpochs = 3000;
  for (std::int64_t u = 0; u < kEpochs; ++u)
    for (const std::int64_t i : loss->members(u)) ++count[static_cast<std::size_t>(i)];
  for (std::size_t i = 0; i < kPool; ++i) {
    const double p = best_of_two(i / kM)[i % kM];
    EXPECT_NEAR(count[i] / kEpochs, p, 4 * std::sqrt(p * (1 - p) / kEpochs)) << i;
  }
}

TEST(BonSft, a_pool_too_small_for_n_is_refused) {
  test::PoolFixture f = fixture_of(Method::bon_sft, 4);
  EXPECT_THROW(f.step(0), UserError);
}

// All pairs of a prompt's samples, the first preferred with this probability; hard labels leave out ties.
struct AllPairs {
  at::Tensor loss;
  int count = 0;
};
template <class Loss>
AllPairs over_pairs(const test::PoolFixture& f, bool soft, const Loss& loss_of) {
  AllPairs sum;
  for (std::size_t row = 0; row < kPrompts; ++row)
    for (std::size_t a = row * kM; a < row * kM + kM; ++a)
      for (std::size_t b = a + 1; b < row * kM + kM; ++b) {
        const double gap = static_cast<double>(kRewards[a]) - kRewards[b];
        if (!soft && gap == 0) continue;
        const double first = soft ? 1 / (1 + std::exp(-gap)) : gap > 0 ? 1 : 0;
        const at::Tensor x = f.logp(a) - f.logp_reference(a), y = f.logp(b) - f.logp_reference(b);
        const at::Tensor term = loss_of(x, y, a, b) * first + loss_of(y, x, b, a) * (1 - first);
        sum.loss = sum.loss.defined() ? sum.loss + term : term;
        ++sum.count;
      }
  return {sum.loss / sum.count, sum.count};
}

// Cross-entropy of softmax(log pi/pi_ref) against softmax(log w_N) over the samples of a prompt, by autograd.
TEST(Infonca, gradient_is_that_of_the_formula) {
  test::PoolFixture f = fixture_of(Method::infonca, 4);
  f.settings.infonca = {.batch = kPool, .samples_per_prompt = kM};
  at::Tensor loss;
  for (std::size_t row = 0; row < kPrompts; ++row) {
    std::vector<at::Tensor> log_ratio, log_w;
    for (std::size_t i = row * kM; i < row * kM + kM; ++i) {
      log_ratio.push_back(f.logp(i) - f.logp_reference(i));
      log_w.push_back((log_ratio.back() - f.residual(i)).detach());
    }
    const at::Tensor p = at::stack(log_w).softmax(0), q = at::stack(log_ratio).log_softmax(0);
    const at::Tensor term = (p * (p.log() - q)).sum() / static_cast<double>(kPrompts);
    loss = loss.defined() ? loss + term : term;
  }
  expect_gradient(f, loss);
}

TEST(Dpo, gradient_is_that_of_the_formula) {
  for (const double smoothing : {0.0, 0.2})
    for (const Labels labels : {Labels::hard, Labels::soft}) {
      test::PoolFixture f = fixture_of(Method::dpo);
      f.settings.preference.beta = 0.3;
      f.settings.preference.label_smoothing = smoothing;
      f.settings.preference.labels = labels;
      expect_gradient(f,
                      over_pairs(f, labels == Labels::soft, [&](const at::Tensor& x, const at::Tensor& y, auto, auto) {
                        const at::Tensor m = (x - y) * 0.3;
                        return -at::log_sigmoid(m) * (1 - smoothing) - at::log_sigmoid(-m) * smoothing;
                      }).loss);
    }
}

TEST(Ipo, gradient_is_that_of_the_formula) {
  for (const bool per_token : {false, true}) {
    test::PoolFixture f = fixture_of(Method::ipo);
    f.settings.preference.beta = 0.7;
    f.settings.preference.per_token = per_token;
    const auto length = [&](std::size_t i) {
      return per_token ? static_cast<double>(f.sequence(i).response.size()) : 1.0;
    };
    expect_gradient(f,
                    over_pairs(f, false, [&](const at::Tensor& x, const at::Tensor& y, std::size_t a, std::size_t b) {
                      return (x / length(a) - y / length(b) - 1 / (2 * 0.7)).square();
                    }).loss);
  }
}

TEST(Slic, gradient_is_that_of_the_formula) {
  test::PoolFixture f = fixture_of(Method::slic);
  f.settings.preference.beta = 0.5;
  expect_gradient(f, over_pairs(f, false, [&](const at::Tensor& x, const at::Tensor& y, auto, auto) {
                       return (1 - (x - y) * 0.5).clamp_min(0);
                     }).loss);
}

TEST(Preference, labels_are_drawn_by_the_rewards_difference) {
  test::PoolFixture f = fixture_of(Method::dpo);
  f.settings.preference.labels = Labels::sampled;
  std::map<std::pair<std::int64_t, std::int64_t>, int> first;
  constexpr int kSeeds = 2000;
  for (int seed = 0; seed < kSeeds; ++seed) {
    f.settings.run.seed = seed;
    const auto loss = make_pool_loss(Method::dpo, f.settings, f.pool, *f.table);
    const std::vector<std::int64_t> members(loss->members(0).begin(), loss->members(0).end());
    EXPECT_EQ(members.size(), 2 * kPrompts * 3);
    EXPECT_EQ(std::vector<std::int64_t>(loss->members(1).begin(), loss->members(1).end()).size(), members.size());
    for (std::size_t i = 0; i < members.size(); i += 2)
      first[{std::min(members[i], members[i + 1]), std::max(members[i], members[i + 1])}] +=
          members[i] < members[i + 1] ? 1 : 0;
  }
  EXPECT_EQ(first.size(), kPrompts * 3);
  for (const auto& [pair, count] : first) {
    const double gap = static_cast<double>(kRewards[static_cast<std::size_t>(pair.first)]) -
                       kRewards[static_cast<std::size_t>(pair.second)];
    const double p = 1 / (1 + std::exp(-gap));
    EXPECT_NEAR(static_cast<double>(count) / kSeeds, p, 4 * std::sqrt(p * (1 - p) / kSeeds) + 1e-9);
  }
}

// Updates are dealt in keyed order; within one, prompt after prompt, so that a micro-batch shares their rows.
TEST(PoolLoss, groups_of_an_update_stand_in_the_order_of_their_prompts) {
  test::PoolFixture f = fixture_of(Method::dpo);
  f.settings.preference.labels = Labels::soft;
  f.settings.preference.batch = 4;  // of nine pairs: one waits for another epoch
  const auto loss = make_pool_loss(Method::dpo, f.settings, f.pool, *f.table);
  std::set<std::vector<std::int64_t>> seen;
  for (std::int64_t epoch = 0; epoch < 20; ++epoch) {
    std::set<std::pair<std::int64_t, std::int64_t>> pairs;
    for (std::int64_t u = 2 * epoch; u < 2 * epoch + 2; ++u) {
      const std::vector<std::int64_t> members(loss->members(u).begin(), loss->members(u).end());
      ASSERT_EQ(members.size(), 8U);
      for (std::size_t i = 0; i < members.size(); i += 2) {
        EXPECT_EQ(members[i] / kM, members[i + 1] / kM);
        EXPECT_LE(members[i > 0 ? i - 1 : 0] / kM, members[i] / kM);
        pairs.insert({members[i], members[i + 1]});
      }
      seen.insert(members);
    }
    EXPECT_EQ(pairs.size(), 8U);
  }
  EXPECT_GT(seen.size(), 10U);
}

TEST(Preference, pairs_are_of_the_first_samples_and_not_more_than_asked_for) {
  test::PoolFixture f = fixture_of(Method::dpo);
  f.settings.preference.generations = 2;
  const auto of_two = make_pool_loss(Method::dpo, f.settings, f.pool, *f.table);
  for (const std::int64_t i : of_two->members(0)) EXPECT_LT(i % kM, 2);
  f.settings.preference.generations = 0;
  f.settings.preference.pairs = 1;
  const auto one_each = make_pool_loss(Method::dpo, f.settings, f.pool, *f.table);
  std::multiset<std::int64_t> rows;
  for (const std::int64_t i : one_each->members(0)) rows.insert(i / kM);
  EXPECT_EQ(rows, (std::multiset<std::int64_t>{0, 0, 1, 1}));  // the rewards of the third prompt are all the same
}

TEST(Bonbon, gradient_is_that_of_the_formula) {
  for (const std::optional<double> alpha : {std::optional<double>(0.3), std::optional<double>()}) {
    test::PoolFixture f = fixture_of(Method::bonbon, 3);
    f.settings.bonbon.alpha = alpha;
    // The best and the worst of three: one pair a prompt, of the third none.
    const std::array<std::pair<std::size_t, std::size_t>, 2> pairs = {{{0, 2}, {4, 5}}};
    const auto own = make_pool_loss(Method::bonbon, f.settings, f.pool, *f.table);
    const std::span<const std::int64_t> members = own->members(0);
    const bool other = std::find(members.begin(), members.end(), 1) != members.end();  // 0 and 1 tie for the best
    double nll = 0;
    for (const auto& [best, worst] : pairs) nll -= f.logp_reference(best == 0 && other ? 1 : best) / 2;
    const double a = alpha.value_or(bonbon_alpha(3, nll));
    at::Tensor loss;
    for (const auto& [first_best, worst] : pairs) {
      const std::size_t best = first_best == 0 && other ? 1 : first_best;
      const at::Tensor margin = f.logp(best) - f.logp_reference(best) - f.logp(worst) + f.logp_reference(worst);
      const at::Tensor term = (f.logp(best) * -a + (margin - bonbon_margin(3)).square() * (1 - a)) / 2;
      loss = loss.defined() ? loss + term : term;
    }
    expect_gradient(f, loss);
  }
}

TEST(Bonbon, sets_are_disjoint) {
  test::PoolFixture f = fixture_of(Method::bonbon, 1);
  EXPECT_THROW(make_pool_loss(Method::bonbon, f.settings, f.pool, *f.table), UserError) << "best and worst of one";
  f.settings.vbon.n = 2;
  const auto loss = make_pool_loss(Method::bonbon, f.settings, f.pool, *f.table);
  std::set<std::int64_t> seen;
  for (const std::int64_t i : loss->members(0)) EXPECT_TRUE(seen.insert(i).second);
}

}  // namespace
}  // namespace vbon
