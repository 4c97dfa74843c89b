#include "vbon/objective/ppo.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "unit/objective/golden.hpp"

namespace vbon {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const double kNan = std::numeric_limits<double>::quiet_NaN();

at::Tensor from_json(const nlohmann::json& rows) {
  std::vector<double> flat;
  if (!rows.at(0).is_array()) return at::tensor(rows.get<std::vector<double>>(), at::kDouble);
  for (const auto& row : rows)
    for (const auto& value : row) flat.push_back(value);
  return at::tensor(flat, at::kDouble).reshape({static_cast<std::int64_t>(rows.size()), -1});
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

// Random [B, T] with lengths 1..T, in double.
struct Batch {
  at::Tensor mask, logp, logp_ref, values, score;
};
Batch random_batch(std::int64_t b, std::int64_t t) {
  const auto lengths = (at::rand({b}) * static_cast<double>(t)).to(at::kLong) + 1;
  const auto options = at::TensorOptions().dtype(at::kDouble);
  const at::Tensor logp = -at::randn({b, t}, options).abs();
  return {.mask = response_mask(lengths, t),
          .logp = logp,
          .logp_ref = logp + 0.3 * at::randn({b, t}, options),
          .values = at::randn({b, t}, options),
          .score = at::randn({b}, options)};
}

at::Tensor spoiled(const at::Tensor& values, const at::Tensor& mask) { return at::where(mask, values, kNan); }

TEST(Ppo, equals_trl_on_rewards_advantages_losses_and_gradients) {
  const auto cases = test::golden("ppo.json");
  ASSERT_EQ(cases.size(), 5u);
  for (const auto& c : cases) {
    const at::Tensor mask = from_json(c.at("mask")) != 0, mask_p1 = from_json(c.at("mask_p1")) != 0;
    const at::Tensor logp = spoiled(from_json(c.at("logprobs")), mask),
                     logp_ref = spoiled(from_json(c.at("ref_logprobs")), mask);
    const at::Tensor values = spoiled(from_json(c.at("values")), mask_p1);

    const at::Tensor cost = sampled_cost(logp, logp_ref, mask, {.kl = c.at("kl_coef")});
    at::Tensor rewards = token_rewards(from_json(c.at("scores")), cost, mask_p1, KlForm::penalty);
    EXPECT_LT(largest_difference(rewards, from_json(c.at("raw_rewards"))), 1e-14);
    if (c.at("whiten_rewards")) {
      // TRL divides by the unbiased standard deviation; feed that as the batch's moments.
      Moments m = masked_moments(rewards, mask_p1);
      m.sum_squares = m.count * (m.variance() * m.count / (m.count - 1) + m.mean() * m.mean());
      rewards = whitened(rewards, mask_p1, m, false);
      EXPECT_LT(largest_difference(rewards, from_json(c.at("rewards"))), 1e-12);
    }
    const auto [advantages, returns] = gae(rewards, values, mask_p1, c.at("gamma"), c.at("lam"));
    EXPECT_LT(largest_difference(returns, from_json(c.at("returns"))), 1e-12);
    // TRL leaves discounted zeros behind the end; inside the response they are the same.
    const at::Tensor zero = at::zeros_like(advantages);
    EXPECT_LT(
        largest_difference(at::where(mask, advantages, zero), at::where(mask, from_json(c.at("raw_advantages")), zero)),
        1e-12);

    const Moments m = masked_moments(advantages, mask);
    EXPECT_NEAR(m.mean(), c.at("advantages_mean").get<double>(), 1e-13);
    EXPECT_NEAR(m.variance(), c.at("advantages_variance").get<double>(), 1e-12);
    const at::Tensor trl_advantages = from_json(c.at("advantages"));
    const double bessel = std::sqrt((m.variance() * m.count / (m.count - 1) + 1e-8) / (m.variance() + 1e-8));
    EXPECT_LT(largest_difference(whitened(advantages, mask, m, true), trl_advantages * bessel), 1e-12);

    const PolicyLoss policy =
        policy_loss(spoiled(from_json(c.at("new_logprobs")), mask), logp, trl_advantages, mask, c.at("clip"));
    const double tokens = mask.sum().item<double>(), values_seen = mask_p1.sum().item<double>();
    EXPECT_NEAR(policy.loss_sum.item<double>() / tokens, c.at("pg_loss").get<double>(), 1e-13);
    // TRL counts clipped tokens in float32.
    EXPECT_NEAR(policy.clipped / tokens, c.at("pg_clipfrac").get<double>(), 1e-7);
    EXPECT_LT(largest_difference(policy.gradient / tokens, from_json(c.at("pg_gradient"))), 1e-14);

    const ValueLoss value =
        value_loss(spoiled(from_json(c.at("new_values")), mask_p1), values, returns, mask_p1, c.at("value_clip"));
    EXPECT_NEAR(value.loss_sum.item<double>() / values_seen, c.at("vf_loss").get<double>(), 1e-12);
    EXPECT_NEAR(value.clipped / values_seen, c.at("vf_clipfrac").get<double>(), 1e-7);
    EXPECT_LT(largest_difference(value.gradient / values_seen, from_json(c.at("vf_gradient"))), 1e-12);
  }
}

TEST(Ppo, gradients_equal_autograd_and_padding_never_matters) {
  for (int i = 0; i < 200; ++i) {
    const Batch b = random_batch(5, 7);
    const at::Tensor behavior = b.logp + 0.3 * at::randn(b.logp.sizes(), b.logp.options());
    const at::Tensor a = spoiled(at::randn(b.logp.sizes(), b.logp.options()), b.mask);
    at::Tensor logp = spoiled(b.logp, b.mask).requires_grad_();
    const PolicyLoss policy = policy_loss(logp, spoiled(behavior, b.mask), a, b.mask, 0.2);
    policy.loss_sum.backward();
    EXPECT_LT(largest_difference(logp.grad(), policy.gradient), 1e-14);
    EXPECT_TRUE((at::where(b.mask, 0.0, policy.gradient) == 0).all().item<bool>());
    EXPECT_FALSE(policy.gradient.requires_grad());

    for (const double clip : {0.3, 0.0}) {
      at::Tensor values = spoiled(b.values, b.mask).requires_grad_();
      const at::Tensor old = b.values + 0.4 * at::randn(b.values.sizes(), b.values.options());
      const ValueLoss value = value_loss(values, spoiled(old, b.mask), a, b.mask, clip);
      value.loss_sum.backward();
      EXPECT_LT(largest_difference(values.grad(), value.gradient), 1e-13);
      EXPECT_TRUE(std::isfinite(value.loss_sum.item<double>()));
    }
  }
}

TEST(Ppo, sums_and_global_counts_do_not_depend_on_the_split_over_ranks) {
  const Batch b = random_batch(9, 6);
  const at::Tensor behavior = b.logp + 0.2 * at::randn(b.logp.sizes(), b.logp.options());
  const at::Tensor a = at::randn(b.logp.sizes(), b.logp.options());
  const PolicyLoss whole = policy_loss(b.logp, behavior, a, b.mask, 0.1);
  const Moments whole_moments = masked_moments(a, b.mask);
  for (const std::int64_t cut : {1, 4, 8}) {
    double loss = 0, clipped = 0;
    Moments moments;
    std::vector<at::Tensor> gradients, white;
    for (const auto& [begin, end] : {std::pair<std::int64_t, std::int64_t>{0, cut}, {cut, 9}}) {
      const auto part = [&](const at::Tensor& x) { return x.narrow(0, begin, end - begin); };
      const PolicyLoss p = policy_loss(part(b.logp), part(behavior), part(a), part(b.mask), 0.1);
      loss += p.loss_sum.item<double>();
      clipped += p.clipped;
      gradients.push_back(p.gradient);
      moments += masked_moments(part(a), part(b.mask));
      white.push_back(whitened(part(a), part(b.mask), whole_moments, true));
    }
    EXPECT_NEAR(loss, whole.loss_sum.item<double>(), 1e-13);
    EXPECT_EQ(clipped, whole.clipped);
    EXPECT_TRUE(at::cat(gradients).equal(whole.gradient));
    EXPECT_TRUE(at::cat(white).equal(whitened(a, b.mask, whole_moments, true)));
    EXPECT_NEAR(moments.variance(), whole_moments.variance(), 1e-14);
    EXPECT_EQ(moments.count, whole_moments.count);
  }
}

TEST(Ppo, nothing_has_moved_means_ratio_one_and_no_clipping) {
  const Batch b = random_batch(6, 5);
  const PolicyLoss p = policy_loss(b.logp, b.logp.clone(), b.values, b.mask, 0.2);
  EXPECT_EQ(p.max_abs_log_ratio, 0);
  EXPECT_EQ(p.clipped, 0);
  EXPECT_EQ(p.ratio_sum, b.mask.sum().item<double>());
  EXPECT_EQ(p.squared_log_ratio, 0);
  EXPECT_TRUE(p.gradient.equal(at::where(b.mask, -b.values, 0.0)));
  const PolicyLoss moved = policy_loss(b.logp + 0.25, b.logp, b.values, b.mask, 0.2);
  EXPECT_NEAR(moved.max_abs_log_ratio, 0.25, 1e-14);
  EXPECT_NEAR(moved.ratio_sum, std::exp(0.25) * b.mask.sum().item<double>(), 1e-12);
  EXPECT_NEAR(moved.squared_log_ratio, 0.0625 * b.mask.sum().item<double>(), 1e-12);
}

TEST(Ppo, keeps_float32_and_agrees_with_float64) {
  const Batch b = random_batch(6, 9);
  const auto f = [](const at::Tensor& x) { return x.to(at::kFloat); };
  const at::Tensor cost = sampled_cost(f(b.logp), f(b.logp_ref), b.mask, {.kl = 0.1, .entropy = 0.02});
  const at::Tensor rewards = token_rewards(b.score, cost, b.mask, KlForm::penalty);  // the score is double
  const auto [advantages, returns] = gae(rewards, f(b.values), b.mask, 1.0, 0.95);
  EXPECT_EQ(advantages.scalar_type(), at::kFloat);
  EXPECT_EQ(sequence_advantages(b.score, cost, b.mask, KlForm::exact, Baseline::rloo, 3).advantages.scalar_type(),
            at::kFloat);
  const at::Tensor white = whitened(advantages, b.mask, masked_moments(advantages, b.mask), true);
  EXPECT_EQ(white.scalar_type(), at::kFloat);
  const PolicyLoss single = policy_loss(f(b.logp), f(b.logp_ref), white, b.mask, 0.2);
  EXPECT_EQ(single.loss_sum.scalar_type(), at::kFloat);

  const at::Tensor cost64 = sampled_cost(b.logp, b.logp_ref, b.mask, {.kl = 0.1, .entropy = 0.02});
  const Advantages a64 = gae(token_rewards(b.score, cost64, b.mask, KlForm::penalty), b.values, b.mask, 1.0, 0.95);
  EXPECT_LT(largest_difference(advantages, a64.advantages), 54 * 8 * 1.2e-7);  // tokens x size x float32 rounding
  EXPECT_LT(largest_difference(returns, a64.returns), 54 * 8 * 1.2e-7);
}

TEST(Whitening, has_mean_0_and_variance_1_or_keeps_the_mean) {
  const Batch b = random_batch(20, 10);
  const at::Tensor x = spoiled(3 * b.values + 5, b.mask);
  const Moments m = masked_moments(x, b.mask);
  const Moments white = masked_moments(whitened(x, b.mask, m, true), b.mask);
  EXPECT_NEAR(white.mean(), 0, 1e-13);
  EXPECT_NEAR(white.variance(), 1, 1e-8);
  const Moments kept = masked_moments(whitened(x, b.mask, m, false), b.mask);
  EXPECT_NEAR(kept.mean(), m.mean(), 1e-12);
  EXPECT_NEAR(kept.variance(), 1, 1e-8);
  const at::Tensor flat = at::full({2, 3}, 0.1f);  // float rounding must not leave a negative variance
  const Moments constant = masked_moments(flat, at::full({2, 3}, true));
  EXPECT_GE(constant.variance(), 0);
  EXPECT_LT(whitened(flat, at::full({2, 3}, true), constant, true).abs().max().item<double>(), 1e-3);
}

TEST(ResponseMask, covers_the_response) {
  const at::Tensor mask = response_mask(at::tensor({0, 2, 3}, at::kInt), 3);
  EXPECT_TRUE(mask.equal(at::tensor({0, 0, 0, 1, 1, 0, 1, 1, 1}, at::kLong).reshape({3, 3}) != 0));
}

TEST(TokenRewards, put_the_score_at_the_first_only_and_last_position) {
  const at::Tensor mask = response_mask(at::tensor({1, 2, 4}, at::kLong), 4);
  const at::Tensor score = at::tensor({10.0, 20.0, 30.0}, at::kDouble);
  const at::Tensor cost = spoiled(at::tensor({1, 0, 0, 0, 1, 2, 0, 0, 1, 2, 3, 4}, at::kDouble).reshape({3, 4}), mask);
  EXPECT_TRUE(token_rewards(score, cost, mask, KlForm::penalty)
                  .equal(at::tensor({9, 0, 0, 0, -1, 18, 0, 0, -1, -2, -3, 26}, at::kDouble).reshape({3, 4})));
  EXPECT_TRUE(token_rewards(score, cost, mask, KlForm::exact)
                  .equal(at::tensor({10, 0, 0, 0, -2, 20, 0, 0, -2, -3, -4, 30}, at::kDouble).reshape({3, 4})));
}

// Of whole scores, without a KL: one advantage a response.
TEST(LeaveOneOut, is_that_of_trl) {
  for (const nlohmann::json& one : test::golden("preference.json", "rloo")) {
    const auto rewards = one["rewards"].get<std::vector<double>>(), want = one["advantages"].get<std::vector<double>>();
    const auto count = static_cast<std::int64_t>(rewards.size());
    const at::Tensor score = at::tensor(rewards, at::kDouble);
    const Advantages ours =
        sequence_advantages(score, at::zeros({count, 3}, at::kDouble), at::ones({count, 3}, at::kBool), KlForm::penalty,
                            Baseline::rloo, one["samples"].get<std::int64_t>());
    for (std::int64_t t = 0; t < 3; ++t)
      EXPECT_TRUE(ours.advantages.select(1, t).allclose(at::tensor(want, at::kDouble), 1e-6, 1e-6));
  }
}

TEST(ScoreWithEosRule, leaves_lowers_or_sets_cut_responses) {
  const at::Tensor score = at::tensor({1.0, 2.0}, at::kDouble),
                   finished = at::tensor(std::vector<std::int64_t>{1, 0}, at::kByte);
  EXPECT_TRUE(score_with_eos_rule(score, finished, {}).equal(score));
  EXPECT_TRUE(score_with_eos_rule(score, finished, {.missing_eos = MissingEos::penalty, .missing_eos_penalty = 3})
                  .equal(at::tensor({1.0, -1.0}, at::kDouble)));
  EXPECT_TRUE(score_with_eos_rule(score, finished, {.missing_eos = MissingEos::score, .missing_eos_score = -20})
                  .equal(at::tensor({1.0, -20.0}, at::kDouble)));
}

TEST(Gae, equals_its_definition_on_ragged_rows) {
  for (int i = 0; i < 50; ++i) {
    const Batch b = random_batch(4, 8);
    const at::Tensor r = at::randn({4, 8}, at::kDouble);
    const double gamma = 0.9, lam = 0.7;
    const auto [advantages, returns] = gae(spoiled(r, b.mask), spoiled(b.values, b.mask), b.mask, gamma, lam);
    for (std::int64_t s = 0; s < 4; ++s) {
      const auto length = b.mask[s].sum().item<std::int64_t>();
      for (std::int64_t t = 0; t < 8; ++t) {
        double expected = 0;
        for (std::int64_t k = t; k < length; ++k) {  // sum (gamma lam)^(k-t) delta_k
          const double next = k + 1 < length ? b.values[s][k + 1].item<double>() : 0;
          expected +=
              std::pow(gamma * lam, k - t) * (r[s][k].item<double>() + gamma * next - b.values[s][k].item<double>());
        }
        EXPECT_NEAR(advantages[s][t].item<double>(), expected, 1e-13);
        EXPECT_NEAR(returns[s][t].item<double>(), t < length ? expected + b.values[s][t].item<double>() : 0, 1e-13);
      }
    }
  }
}

TEST(RewardToGo, sums_to_the_end) {
  const at::Tensor mask = response_mask(at::tensor({2, 3}, at::kLong), 3);
  const at::Tensor r = spoiled(at::tensor({1, 2, 0, 1, 2, 3}, at::kDouble).reshape({2, 3}), mask);
  EXPECT_TRUE(reward_to_go(r, mask).equal(at::tensor({3, 2, 0, 6, 5, 3}, at::kDouble).reshape({2, 3})));
  EXPECT_TRUE(at::allclose(reward_to_go(r, mask, 0.5),
                           at::tensor({2.0, 2.0, 0.0, 2.75, 3.5, 3.0}, at::kDouble).reshape({2, 3})));
}

TEST(LeaveOneOut, subtracts_the_mean_of_the_others) {
  const at::Tensor x = at::tensor({1.0, 2.0, 6.0, 5.0, 5.0, 8.0}, at::kDouble);
  EXPECT_TRUE(at::allclose(leave_one_out(x, 3), at::tensor({-3.0, -1.5, 4.5, -1.5, -1.5, 3.0}, at::kDouble)));
  EXPECT_TRUE(at::allclose(leave_one_out(x, 2), at::tensor({-1.0, 1.0, 1.0, -1.0, -3.0, 3.0}, at::kDouble)));
  const at::Tensor two = at::randn({6, 4}, at::kDouble);
  EXPECT_LT(leave_one_out(two, 3).reshape({2, 3, 4}).sum(1).abs().max().item<double>(), 1e-14);
}

TEST(ExplainedVariance, is_one_for_right_values_and_zero_for_the_mean) {
  const at::Tensor mask = at::full({3, 4}, true), returns = at::randn({3, 4}, at::kDouble);
  const Moments r = masked_moments(returns, mask);
  EXPECT_NEAR(explained_variance(masked_moments(at::zeros_like(returns), mask), r), 1, 1e-15);
  EXPECT_NEAR(explained_variance(masked_moments(returns - r.mean(), mask), r), 0, 1e-12);
  EXPECT_TRUE(std::isnan(explained_variance(r, {.count = 4, .sum = 8, .sum_squares = 16})));
}

TEST(AdaptedKlCoef, is_proportional_and_clipped) {
  EXPECT_NEAR(adapted_kl_coef(0.2, 6.6, 6, 10000, 512), 0.2 * (1 + 0.1 * 512 / 10000), 1e-15);
  EXPECT_NEAR(adapted_kl_coef(0.2, 100, 6, 10000, 512), 0.2 * (1 + 0.2 * 512 / 10000), 1e-15);
  EXPECT_NEAR(adapted_kl_coef(0.2, 0, 6, 10000, 512), 0.2 * (1 - 0.2 * 512 / 10000), 1e-15);
  EXPECT_EQ(adapted_kl_coef(0.2, 6, 6, 10000, 512), 0.2);
  EXPECT_EQ(initial_kl_coef({}), 0.05);
  EXPECT_EQ(initial_kl_coef({.kl_coef = 0.0}), 0.0);
}

TEST(PpoConfig, refuses_what_would_change_n) {
  EXPECT_THAT(problems(PpoConfig{}, LoopMethod::vbon, 1), IsEmpty());
  EXPECT_THAT(problems(PpoConfig{}, LoopMethod::ppo, 1), IsEmpty());
  EXPECT_THAT(problems(PpoConfig{.baseline = Baseline::rloo, .kl_form = KlForm::exact}, LoopMethod::vbon, 4),
              IsEmpty());
  EXPECT_THAT(problems(PpoConfig{.kl_coef = 0.05}, LoopMethod::vbon, 1), ElementsAre(HasSubstr("ppo.kl_coef")));
  EXPECT_THAT(problems(PpoConfig{.adaptive_kl = true}, LoopMethod::vbon, 1), ElementsAre(HasSubstr("ppo.adaptive_kl")));
  EXPECT_THAT(problems(PpoConfig{.gamma = 0.99}, LoopMethod::vbon, 1), ElementsAre(HasSubstr("ppo.gamma")));
  EXPECT_THAT(problems(PpoConfig{.whiten_rewards = true}, LoopMethod::vbon, 1),
              ElementsAre(HasSubstr("ppo.whiten_rewards")));
  EXPECT_THAT(problems(PpoConfig{.gamma = 0.99, .kl_coef = 0.1, .adaptive_kl = true, .whiten_rewards = true},
                       LoopMethod::ppo, 1),
              IsEmpty());
  EXPECT_THAT(problems(PpoConfig{.kl_form = KlForm::exact, .whiten_rewards = true}, LoopMethod::ppo, 1),
              ElementsAre(HasSubstr("penalty")));
  EXPECT_THAT(problems(PpoConfig{.baseline = Baseline::rloo}, LoopMethod::ppo, 1),
              ElementsAre(HasSubstr("2 or more samples")));
  EXPECT_THAT(problems(PpoConfig{.gamma = 0.9, .baseline = Baseline::none}, LoopMethod::ppo, 1),
              ElementsAre(HasSubstr("critic")));
}

TEST(PpoConfig, lists_every_value_out_of_range) {
  const PpoConfig bad{.clip = 0,
                      .value_clip = -1,
                      .value_coef = kNan,
                      .gamma = 1.5,
                      .lam = -0.1,
                      .epochs = 0,
                      .kl_coef = -1.0,
                      .kl_target = 0,
                      .kl_horizon = kNan,
                      .missing_eos_penalty = -2};
  const auto found = problems(bad, LoopMethod::ppo, 4);
  ASSERT_EQ(found.size(), 10u);
  for (const char* key : {"clip", "value_clip", "value_coef", "gamma", "lam", "epochs", "kl_coef", "kl_target",
                          "kl_horizon", "missing_eos_penalty"})
    EXPECT_THAT(found, ::testing::Contains(HasSubstr("ppo." + std::string(key) + " is")));
}

}  // namespace
}  // namespace vbon
