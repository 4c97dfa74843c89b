// Steps of the mixed methods: b of the policy gradient that vBoN alone has (online_step_test.cpp shows that one to be
// right) and 1-b of autograd's gradient of what is imitated, in the same units. On one rank and on two.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>

#include "unit/train/pool_fixture.hpp"
#include "vbon/objective/bon_curve.hpp"
#include "vbon/objective/vbon.hpp"

namespace vbon {
namespace {

using test::kM;
using test::kPool;
using test::kRewards;

class Mixed : public test::PoolFixture {
 public:
  Mixed() {
    settings.train.prompts_per_step = 3;
    settings.train.samples_per_prompt = kM;
    settings.vbon.n = 2;
    settings.ppo = {.epochs = 1, .baseline = Baseline::rloo, .kl_form = KlForm::exact};
    batch = test::toy_rollouts(pool.block.prompts);
    batch.reward = {0.2f, 3.0f, -1.5f, 1.5f, 2.5f, 0.0f, -4.0f, 1.0f, -9.0f};
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < kPool; ++i) {
      const auto own = test::numbers(test::tokens_by_definition(learner->policy.model, reference,
                                                                test::sequence_of(pool.block.prompts, batch, i), 0.8)
                                         .logp);
      for (std::size_t t = 0; t < test::kToyTokens; ++t)
        batch.logp_behavior.push_back(t < own.size() ? static_cast<float>(own[t]) : std::nanf(""));
    }
  }

  Metrics online(Method method, double b, std::int64_t samples = 0, std::int64_t step = 0) {
    settings.train.method = method;
    settings.mixture = {.b = b, .samples = samples};
    const std::vector<std::int64_t> rows = {0, 1, 2};
    Phases phases;
    const LearnerTools tools{.settings = settings,
                             .phases = phases,
                             .prompts = pool.block.prompts,
                             .ranks = ranks_of_table(*table, rows),
                             .imitated = [&](std::span<const std::int64_t> of, std::int64_t at) {
                               return best_of_pool(pool, of, 2, samples, 12, at);
                             }};
    RolloutBatch own = batch;
    return online_step(*learner, tools, own, rows, step, 0, settings.ppo.epochs * settings.train.minibatches);
  }
  at::Tensor gradient() const { return learner->parallel->moments().first.clone(); }

  // Mean over prompts of the weighted -log pi of the pool's best of two.
  at::Tensor nll() const {
    at::Tensor sum;
    for (std::size_t i = 0; i < kPool; ++i) {
      const double w = bon_weights(std::span(kRewards).subspan(i / kM * kM, kM), 2)[i % kM];
      const at::Tensor term = logp(i) * (-w / (kPool / kM));
      sum = sum.defined() ? sum + term : term;
    }
    return sum;
  }

  RolloutBatch batch;
};

TEST(MixedStep, is_b_of_the_policy_gradient_and_the_rest_imitation_in_its_units) {
  for (const bool whiten : {false, true}) {
    Mixed f;
    f.settings.ppo.whiten_advantages = whiten;
    const Metrics alone = f.online(Method::vbon, 1);
    const at::Tensor policy = f.gradient();
    const double tokens = std::accumulate(f.batch.length.begin(), f.batch.length.end(), 0.0);
    const double sd = alone.at("advantage_sd"), factor = whiten ? 1 / std::sqrt(sd * sd + 1e-8) : 1;
    const at::Tensor nll = f.nll();
    const at::Tensor imitation = f.gradient_of(nll * (factor * kPool / tokens));  // vbon.scale is 1 at N = 2
    for (const double b : {1.0, 0.3, 0.0}) {
      const Metrics m = f.online(Method::jeffreys, b);
      EXPECT_LE(test::relative_difference(f.gradient(), policy * b + imitation * (1 - b)), 3e-5) << b;
      if (b < 1) {
        EXPECT_NEAR(m.at("imitated_nll"), nll.item<double>(), 1e-3);
      }
      EXPECT_NEAR(m.at("kl_to_bon"), alone.at("kl_to_bon"), 1e-5);
    }
  }
}

TEST(MixedStep, full_bond_is_jeffreys_and_the_quantile_is_another_reward) {
  Mixed f;
  f.settings.bond.reward = BondReward::full;
  f.online(Method::jeffreys, 0.5);
  const at::Tensor want = f.gradient();
  f.online(Method::bond, 0.5);
  EXPECT_LE(test::relative_difference(f.gradient(), want), 1e-6);
  f.settings.bond.reward = BondReward::quantile;
  f.online(Method::bond, 0.5);
  EXPECT_GE(test::relative_difference(f.gradient(), want), 1e-2);
}

TEST(MixedStep, draws_are_as_frequent_as_their_weights) {
  const Mixed f;
  const std::vector<std::int64_t> rows = {2, 0, 1};
  std::map<const std::int32_t*, double> count;
  constexpr int kSteps = 4000;
  for (int step = 0; step < kSteps; ++step)
    for (const Imitated& i : best_of_pool(f.pool, rows, 2, 2, 12, step)) {
      EXPECT_EQ(i.weight, 0.5);
      EXPECT_EQ(i.sequence.prompt.data(), f.pool.block.prompts.tokens_of(rows[i.prompt]).data());
      count[i.sequence.response.data()] += 0.5 / kSteps;
    }
  for (std::size_t i = 0; i < kPool; ++i) {
    const double w = bon_weights(std::span(kRewards).subspan(i / kM * kM, kM), 2)[i % kM];
    EXPECT_NEAR(count[f.sequence(i).response.data()], w, 4 * std::sqrt(w * (1 - w) / kSteps)) << i;
  }
}

// J-BOND and BOND on an anchor, at ratio 1 and without baseline or whitening: the score of each response less the KL to
// the anchor still to come, as weights of its log-probabilities.
TEST(MixedStep, with_an_anchor_is_the_formula) {
  for (const Method method : {Method::jbond, Method::bond}) {
    Mixed f;
    f.settings.train.method = method;
    f.settings.bond = {.quantile = BondQuantile::anchor, .gamma = 0.25};
    f.settings.anchor = {.samples = method == Method::jbond ? 2 : 3};
    f.settings.mixture.b = 0.4;
    f.settings.ppo = {.epochs = 1, .baseline = Baseline::none, .kl_form = KlForm::penalty, .whiten_advantages = false};
    f.learner->anchor = make_policy_copy(f.reference, {});
    test::disturb_all(trained_parameters(f.learner->anchor->policy), 0.02, 200);
    const CausalLm& anchor = f.learner->anchor->policy.model;

    RolloutBatch drawn = f.batch;  // of the anchor: the same responses the other way round
    const std::size_t each = method == Method::jbond ? 2 : 3;
    for (std::size_t i = 0; i < kPool; ++i) drawn.source[i] = i % kM < each ? 1 : 0;
    drawn.reward = {0.0f, 1.0f, -1.0f, 4.0f, 2.0f, 2.5f, -5.0f, 0.5f, 1.0f};
    drawn = of_source(drawn, RolloutSource::anchor);

    const std::vector<std::int64_t> rows = {0, 1, 2};
    Phases phases;
    const LearnerTools tools{.settings = f.settings, .phases = phases, .prompts = f.pool.block.prompts, .ranks = {}};
    const double tokens = std::accumulate(f.batch.length.begin(), f.batch.length.end(), 0.0);
    const auto of = [&](const RolloutBatch& batch, const CausalLm& against, std::size_t row, std::size_t i) {
      const Sequence s = {
          f.pool.block.prompts.tokens_of(static_cast<std::int64_t>(row)),
          std::span(batch.tokens).subspan(i * test::kToyTokens, static_cast<std::size_t>(batch.length[i]))};
      return test::tokens_by_definition(f.learner->policy.model, against, s, 0.8);
    };
    at::Tensor loss;
    for (std::size_t i = 0; i < kPool; ++i) {
      const std::span<const float> others = std::span(drawn.reward).subspan(i / kM * each, each);
      double score = f.batch.reward[i] < std::min(others[0], others[1]) ? -std::log(16.0) : 0;
      if (method == Method::bond) {  // N = 2, scale 1: log F, the sample among the three of the anchor
        double not_above = 1;
        for (const float r : others) not_above += r <= f.batch.reward[i] ? 1 : 0;
        score = std::log(not_above / 4);
      }
      const auto t = of(f.batch, anchor, i / kM, i);
      const std::vector<double> logp = test::numbers(t.logp), of_anchor = test::numbers(t.logp_ref);
      double to_come = 0;
      for (std::size_t k = logp.size(); k-- > 0;) {
        to_come += (1 + 0.25 / 0.4) * (logp[k] - of_anchor[k]);
        const at::Tensor term = t.logp[static_cast<std::int64_t>(k)] * (-0.4 * (score - to_come) / tokens);
        loss = loss.defined() ? loss + term : term;
      }
    }
    for (std::size_t i = 0; i < drawn.reward.size(); ++i) {
      const std::span<const float> own = std::span(drawn.reward).subspan(i / each * each, each);
      const double weight = bon_weights(own, 2)[i % each];
      loss = loss + of(drawn, anchor, i / each, i).logp.sum() * (-0.6 * weight / 3 * kPool / tokens);
    }
    const at::Tensor want = f.gradient_of(loss);
    RolloutBatch own = f.batch;
    const Metrics m = online_step(*f.learner, tools, own, rows, 0, 0, 1, &drawn);
    EXPECT_LE(test::relative_difference(f.gradient(), want), 3e-5) << enum_name(method);
    EXPECT_GT(std::abs(m.at("kl") - m.at("kl_to_anchor")), 1e-4) << "the record is against the reference";

    const at::Tensor before = f.learner->anchor->parameters.values().clone();
    move_anchor(*f.learner, 0.25);
    const at::Tensor policy = f.learner->parameters.values().narrow(0, 0, f.learner->policy_size);
    EXPECT_LE(test::relative_difference(f.learner->anchor->parameters.values(), before * 0.75 + policy * 0.25), 1e-6);
  }
}

// Parts of a step's prompts go to its minibatches: without a learning rate to speak of, their gradients add up.
TEST(MixedStep, minibatches_divide_what_is_imitated) {
  Mixed f;
  f.settings.train.minibatches = 3;
  const Metrics m = f.online(Method::jeffreys, 0);
  EXPECT_NEAR(m.at("imitated_nll"), f.nll().item<double>(), 1e-3);
}

}  // namespace
}  // namespace vbon
