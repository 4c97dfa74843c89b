// Regression on the pool against autograd of (log pi/pi_ref - log w_N)^2, residuals counting linearly beyond the limit,
// with every sample's own reward left out of its table. On one rank and on two.
#include <ATen/Parallel.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include "support/world.hpp"
#include "unit/train/toy_world.hpp"
#include "vbon/train/learner.hpp"

namespace vbon {
namespace {

using test::at_index;

constexpr std::int64_t kM = 3, kPool = 9;
const std::vector<float> kRewards = {0.5f, 0.5f, -1.0f, 2.0f, 3.0f, 1.0f, -4.0f, -4.0f, -4.0f};

class Fixture {
 public:
  explicit Fixture(double clip, std::int64_t batch = 100, std::int64_t last = 0) : reference(test::toy_lm({}, 31)) {
    at::set_num_threads(1);
    settings.run.seed = 12;
    settings.sampling = {.temperature = 0.8, .max_new_tokens = test::kToyTokens};
    settings.train = {.method = Method::regression, .layers = {last}, .micro_batch = 2};
    settings.vbon.n = 4.0;
    settings.regression = {.batch = batch, .clip_residual = clip};
    settings.optimizer = {.learning_rate = 1e-12, .beta1 = 0, .weight_decay = 0, .schedule = Schedule::constant, .clip_norm = 0};
    learner = make_learner(reference, settings);
    test::disturb_all(trained_parameters(learner->policy), 0.03, 70);

    pool.block.prompts = test::toy_prompts();
    const RolloutBatch drawn = test::toy_rollouts(pool.block.prompts);
    pool.header.num_samples = pool.block.samples.num_samples = kM;
    pool.block.samples.max_new_tokens = test::kToyTokens;
    pool.block.samples.tokens = drawn.tokens;
    pool.block.samples.length = drawn.length;
    pool.block.samples.finished = drawn.finished;
    pool.block.rewards["main"] = kRewards;
    pool.sorted_rewards = sorted_rows(pool.block.rewards, kM);
    for (std::size_t i = 0; i < kPool; ++i)
      pool.block.samples.logp_reference.push_back(static_cast<float>(test::tokens_by_definition(reference, reference, sequence(i), 0.8).logp.sum().item<double>()));
    table = std::make_unique<LogFTable>(pool.sorted_rewards.at("main"), 3, Estimator::add_one);
  }
  Metrics step(std::int64_t update) {
    Phases phases;
    const LearnerTools tools{.settings = settings, .learners = *group, .phases = phases, .prompts = pool.block.prompts, .ranks = {}};
    return regression_step(*learner, tools, pool, *table, update, 20);
  }
  Sequence sequence(std::size_t i) const {
    return {pool.block.prompts.tokens_of(static_cast<std::int64_t>(i) / kM), pool.block.samples.tokens_of(static_cast<std::int64_t>(i) / kM, static_cast<std::int64_t>(i) % kM)};
  }
  at::Tensor residual(std::size_t i) const {  // differentiable
    const double n = 4;
    double below = 0, not_above = 0;  // of the other two of the prompt
    for (std::size_t j = i / kM * kM; j < i / kM * kM + kM; ++j) {
      if (j == i) continue;
      below += kRewards[j] < kRewards[i] ? 1 : 0;
      not_above += kRewards[j] <= kRewards[i] ? 1 : 0;
    }
    const double strict = below / kM, whole = (not_above + 1) / kM;
    const double log_w = std::log((std::pow(whole, n) - std::pow(strict, n)) / (whole - strict));
    const auto t = test::tokens_by_definition(learner->policy.model, reference, sequence(i), 0.8);
    return t.logp.sum() - t.logp_ref.sum() - log_w;
  }
  at::Tensor gradient_of(const at::Tensor& loss) {
    learner->parameters.zero_gradients();
    loss.backward();
    const at::Tensor gradient = learner->parameters.gradients().clone();
    learner->parameters.zero_gradients();
    return gradient;
  }

  Settings settings;
  CausalLm reference;
  std::unique_ptr<LearnerState> learner;
  Pool pool;
  std::unique_ptr<LogFTable> table;
  std::unique_ptr<comm::Collectives> group = comm::make_collectives(test::world().dup("test"), comm::Backend::host);
};

at::Tensor clipped_square(const at::Tensor& residual, double limit) {
  if (limit == 0) return residual.square();
  return at::where(residual.abs() > limit, 2 * limit * residual.abs() - limit * limit, residual.square());
}

TEST(RegressionStep, gradient_and_metrics_are_those_of_the_formula) {
  for (const std::int64_t last : {0, 1})
    for (const double limit : {0.0, 2.0}) {
      Fixture f(limit, 100, last);
      at::Tensor loss;
      double squares = 0, sizes = 0, beyond = 0, log_ratio = 0, tokens = 0;
      for (std::size_t i = 0; i < kPool; ++i) {
        const at::Tensor residual = f.residual(i), term = clipped_square(residual, limit) / kPool;
        loss = loss.defined() ? loss + term : term;
        const double r = residual.item<double>();
        squares += r * r / kPool;
        sizes += std::abs(r) / kPool;
        beyond += limit > 0 && std::abs(r) > limit ? 1 : 0;
        const auto t = test::tokens_by_definition(f.learner->policy.model, f.reference, f.sequence(i), 0.8);
        log_ratio += (t.logp.sum() - t.logp_ref.sum()).item<double>() / kPool;
        tokens += static_cast<double>(f.sequence(i).response.size()) / kPool;
      }
      if (limit > 0) {  // on both sides of the limit
        ASSERT_GE(beyond, 2);
        ASSERT_LE(beyond, 7);
      }
      const at::Tensor want = f.gradient_of(loss);
      const Metrics m = f.step(0);
      EXPECT_LE(test::relative_difference(f.learner->optimizer.first_moment(), want), 1e-5) << "limit " << limit;
      const std::map<std::string, double> figures = {{"loss", squares}, {"residual", sizes}, {"residual_clipped", beyond / kPool}, {"log_ratio", log_ratio},
                                                     {"length", tokens}, {"grad_norm", want.norm().item<double>()}, {"learning_rate", 1e-12}};
      EXPECT_EQ(m.size(), figures.size());
      for (const auto& [name, value] : figures) EXPECT_NEAR(m.at(name), value, 3e-5 * std::max(1.0, std::abs(value))) << name;
    }
}

TEST(RegressionStep, an_epoch_visits_every_sample_once) {
  Fixture f(0.9, 3);  // three updates an epoch
  at::Tensor loss;
  for (std::size_t i = 0; i < kPool; ++i) loss = loss.defined() ? loss + clipped_square(f.residual(i), 0.9) / 3 : clipped_square(f.residual(i), 0.9) / 3;
  const at::Tensor want = f.gradient_of(loss);
  std::vector<double> first_epoch, second_epoch;
  for (std::int64_t epoch = 0; epoch < 2; ++epoch) {
    at::Tensor sum = at::zeros_like(want);
    for (std::int64_t u = 0; u < 3; ++u) {
      (epoch == 0 ? first_epoch : second_epoch).push_back(f.step(epoch * 3 + u).at("loss"));
      sum += f.learner->optimizer.first_moment();
    }
    EXPECT_LE(test::relative_difference(sum, want), 1e-5) << "epoch " << epoch;
  }
  EXPECT_NE(first_epoch, second_epoch);  // in another order
}

TEST(RegressionStep, learns_log_w_and_takes_its_own_rate) {
  Fixture f(3);
  f.settings.regression.learning_rate = 5e-3;
  f.settings.regression.warmup = 3;
  f.settings.optimizer.beta1 = 0.9;
  f.learner = make_learner(f.reference, f.settings);
  const double before = f.step(0).at("loss");
  EXPECT_NEAR(f.step(1).at("learning_rate"), 5e-3 * 2 / 4, 1e-12);
  for (std::int64_t u = 2; u < 40; ++u) f.step(u);
  const Metrics m = f.step(40);
  EXPECT_LT(m.at("loss"), 0.1 * before);
  EXPECT_EQ(m.at("learning_rate"), 5e-3);
}

}  // namespace
}  // namespace vbon
