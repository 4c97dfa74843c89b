// The truth test's second half: what the online loop estimates, from samples that the engine drew, agrees with sums
// over every string within its own Monte Carlo error; so do pools, as they grow.
#include <ATen/Parallel.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <tuple>
#include <vector>

#include "unit/train/truth_world.hpp"
#include "vbon/objective/bon.hpp"
#include "vbon/objective/stats.hpp"

namespace vbon::truth {
namespace {

// Moves a policy off its reference, so that KL and entropy have gradients, too.
void disturb(LearnerState& state) {
  const RandomStream stream(3, Purpose::initialise);
  const at::NoGradGuard no_grad;
  float* values = state.parameters.values().mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < state.policy_size; ++i) values[i] += static_cast<float>(0.06 * stream.normal(i));
}

// Mean over prompts of the scaled objective, a sum over all strings; differentiable in the policy.
at::Tensor enumerated_value(const World& world, const CausalLm& policy, const VbonConfig& config) {
  at::Tensor value = at::zeros({}, at::kDouble);
  for (std::size_t p = 0; p < kPrompts; ++p) {
    std::vector<double> scores, log_ref;
    ObjectiveNats o;
    for (std::size_t s = 0; s < world.strings.size(); ++s) {
      o = scaled_objective(config, world.log_f(world.quantiles[p][s]));
      scores.push_back(o.reward);
      log_ref.push_back(std::log(world.pi_ref[p][s]));
    }
    const at::Tensor log_pi = world.log_pi(policy, static_cast<std::int64_t>(p));
    const at::Tensor of_string =
        at::tensor(scores, at::kDouble) - o.kl * (log_pi - at::tensor(log_ref, at::kDouble)) + o.entropy * log_pi;
    value = value + (log_pi.exp() * of_string).sum() / kPrompts;
  }
  return value;
}

struct MeanOfBatches {
  double sum = 0, squares = 0, count = 0;
  void add(double x) { sum += x, squares += x * x, count += 1; }
  double mean() const { return sum / count; }
  double error() const { return std::sqrt(std::max(0.0, squares / count - mean() * mean()) / (count - 1)); }
};

// Five standard errors: one failure in a million draws of these fixed seeds, were they drawn anew.
void expect_agreement(const MeanOfBatches& estimate, double truth, const std::string& what) {
  EXPECT_NEAR(estimate.mean(), truth, 5 * estimate.error()) << what;
}

using Chain = std::tuple<Objective, KlForm, Baseline>;
class LoopGradient : public testing::TestWithParam<Chain> {
 protected:
  void SetUp() override { at::set_num_threads(1); }
};

TEST_P(LoopGradient, is_the_enumerated_one_within_monte_carlo_error) {
  const auto [objective, form, baseline] = GetParam();
  const World world;
  Settings settings = settings_of(4, 64);
  settings.vbon.objective = objective;
  settings.ppo.kl_form = form;
  settings.ppo.baseline = baseline;
  settings.ppo.lam = 1;  // any critic is unbiased then
  settings.ppo.epochs = 1;
  // With no memory and no clipping the optimiser's first moment is the gradient itself; weights do not move.
  settings.optimizer = {.learning_rate = 1e-20, .beta1 = 0, .schedule = Schedule::constant, .clip_norm = 0};
  comm::LocalCollectives local;
  const auto learner = make_learner(world.reference, settings, local);
  disturb(*learner);
  const CausalLm& policy = learner->policy.model;

  const at::Tensor value = enumerated_value(world, policy, settings.vbon);
  value.backward();
  const at::Tensor truth = learner->parameters.gradients().narrow(0, 0, learner->policy_size).to(at::kDouble).clone();
  learner->parameters.zero_gradients();

  constexpr int kDirections = 8, kBatches = 40;  // the first direction is the truth's own
  std::vector<at::Tensor> directions = {truth / truth.norm()};
  const RandomStream stream(7, Purpose::initialise);
  for (std::int32_t d = 1; d < kDirections; ++d) {
    std::vector<double> x;
    for (std::int64_t i = 0; i < truth.numel(); ++i) x.push_back(stream.normal(i, d));
    directions.push_back(at::tensor(x, at::kDouble) / std::sqrt(static_cast<double>(truth.numel())));
  }
  Phases phases;
  const LearnerTools tools{.settings = settings, .phases = phases, .prompts = world.prompts, .ranks = world.ranks()};
  const std::vector<std::int64_t> rows = {0, 1};
  std::array<MeanOfBatches, kDirections> along;
  MeanOfBatches monitor, objective_metric;
  for (std::int64_t step = 0; step < kBatches; ++step) {
    RolloutBatch batch = rollout_batch(world, policy, settings, step);
    const Metrics metrics = online_step(*learner, tools, batch, rows, step, step, kBatches);
    double tokens = 0;
    for (const std::int32_t length : batch.length) tokens += length;
    // The loss is a mean over tokens of whitened advantages; the objective's gradient a mean over responses.
    const double per_response = -metrics.at("advantage_sd") * tokens / static_cast<double>(batch.num_sequences());
    const at::Tensor gradient =
        learner->parallel->moments().first.narrow(0, 0, learner->policy_size).to(at::kDouble) * per_response;
    for (std::size_t d = 0; d < kDirections; ++d) along[d].add((gradient * directions[d]).sum().item<double>());
    monitor.add(metrics.at("kl_to_bon"));
    objective_metric.add(metrics.at("objective"));
  }
  for (std::size_t d = 0; d < kDirections; ++d)
    expect_agreement(along[d], (truth * directions[d]).sum().item<double>(), "direction " + std::to_string(d));
  std::printf("|g| %.4f, along itself %.4f +- %.4f\n", truth.norm().item<double>(), along[0].mean(), along[0].error());
  EXPECT_LT(along[0].error(), 0.05 * truth.norm().item<double>()) << "too noisy to see a wrong gradient";
  expect_agreement(objective_metric, value.item<double>(), "objective");
  expect_agreement(monitor, world.kl_to_bon(policy, 4), "the monitor of KL(pi || pi_bon)");
  if (objective == Objective::exact) {
    EXPECT_NEAR(value.item<double>(), -world.kl_to_bon(policy, 4) / 3, 1e-6);
  }
}

INSTANTIATE_TEST_SUITE_P(Chains, LoopGradient,
                         testing::Values(Chain{Objective::exact, KlForm::penalty, Baseline::rloo},
                                         Chain{Objective::exact, KlForm::exact, Baseline::rloo},
                                         Chain{Objective::exact, KlForm::penalty, Baseline::critic_model},
                                         Chain{Objective::exact, KlForm::exact, Baseline::critic_model},
                                         Chain{Objective::L, KlForm::penalty, Baseline::rloo},
                                         Chain{Objective::L, KlForm::exact, Baseline::rloo},
                                         Chain{Objective::L1, KlForm::penalty, Baseline::rloo},
                                         Chain{Objective::L1, KlForm::exact, Baseline::rloo}));

// Sorted rewards [P, M] of reference samples, drawn by the engine.
std::vector<float> drawn_pool(const World& world, std::int32_t samples) {
  std::vector<float> rewards;
  for (const Completion& c : world.draw(world.reference, samples, RandomStream(2, Purpose::pool)))
    rewards.push_back(World::reward_of(c.prompt, c.tokens));
  for (std::int64_t p = 0; p < kPrompts; ++p)
    std::sort(rewards.begin() + p * samples, rewards.begin() + (p + 1) * samples);
  return rewards;
}

// `exponential` is not here: it fits a family of curves that these rewards do not belong to.
TEST(TruthPool, estimators_and_exact_weights_converge_to_enumeration) {
  at::set_num_threads(1);
  const World world;
  const double n = 4;
  double last_log_f = 0, last_weight = 0;
  for (const std::int32_t samples : {256, 16384}) {
    const std::vector<float> rewards = drawn_pool(world, samples);
    double worst_log_f = 0, weight_error = 0;
    for (const Estimator estimator : {Estimator::add_one, Estimator::harmonic, Estimator::interpolated}) {
      const LogFTable table(rewards, kPrompts, estimator);
      double log_f_error = 0;  // root mean square under the reference
      for (std::size_t p = 0; p < kPrompts; ++p)
        for (std::size_t s = 0; s < world.strings.size(); ++s) {
          const Quantiles q = world.quantiles[p][s];
          const double expected_below = samples * q.f_strict;
          if (expected_below < 25) continue;  // the lower tail is known by too few samples
          const LogF estimate = table.of(static_cast<std::int64_t>(p), world.rewards[p][s]);
          const double error = estimate.log_f - std::log(q.f_strict);
          // Five standard errors of the log of a binomial share, and a bias below 1 / (M F). Interpolation answers
          // somewhere between F_strict and F for a string that the pool has not drawn.
          const double step = estimator == Estimator::interpolated ? std::log((q.f * samples + 5) / expected_below) : 0;
          EXPECT_LT(std::abs(error), 5 * std::sqrt((1 - q.f_strict) / expected_below) + 1.5 / expected_below + step);
          const double w_error =
              log_bon_weight(estimate.exact.f_strict, estimate.exact.f, n) - log_bon_weight(q.f_strict, q.f, n);
          if (256 * q.f_strict < 25) continue;  // the same strings for every M
          log_f_error += world.pi_ref[p][s] * error * error / kPrompts;
          weight_error += world.pi_ref[p][s] * w_error * w_error / (3 * kPrompts);
        }
      worst_log_f = std::max(worst_log_f, std::sqrt(log_f_error));
    }
    weight_error = std::sqrt(weight_error);
    if (last_log_f > 0) {  // 64 times the samples: an eighth of the error, give or take half
      EXPECT_LT(worst_log_f, last_log_f / 5);
      EXPECT_LT(weight_error, last_weight / 5);
    }
    std::printf("M=%d: log F %.5f, log w %.5f\n", samples, worst_log_f, weight_error);
    last_log_f = worst_log_f, last_weight = weight_error;
  }
}

// Two steps of training on tables: equal to the last bit whatever increasing map the rewards went through.
std::vector<at::Tensor> weights_after_training(const World& world, Objective objective, Estimator estimator,
                                               const std::function<float(float)>& map) {
  Settings settings = settings_of(4, 16);
  settings.vbon.objective = objective;
  settings.vbon.estimator = estimator;
  settings.optimizer.learning_rate = 1e-3;
  std::vector<float> rewards = drawn_pool(world, 64);
  for (float& r : rewards) r = map(r);
  const LogFTable table(rewards, kPrompts, estimator);
  const std::vector<std::int64_t> rows = {0, 1};
  comm::LocalCollectives local;
  const auto learner = make_learner(world.reference, settings, local);
  Phases phases;
  const LearnerTools tools{
      .settings = settings, .phases = phases, .prompts = world.prompts, .ranks = ranks_of_table(table, rows)};
  std::vector<at::Tensor> after;
  for (std::int64_t step = 0; step < 2; ++step) {
    RolloutBatch batch = rollout_batch(world, learner->policy.model, settings, step);
    for (float& r : batch.reward) r = map(r);
    online_step(*learner, tools, batch, rows, step, step * updates_per_step(settings), 2 * updates_per_step(settings));
    after.push_back(learner->parameters.values().detach().clone());
  }
  return after;
}

TEST(TruthTransforms, strictly_increasing_maps_of_the_reward_train_the_same_weights) {
  at::set_num_threads(1);
  const World world;
  const std::vector<std::function<float(float)>> maps = {[](float r) { return 3.f * r - 7.f; },
                                                         [](float r) { return std::exp(r); },
                                                         [](float r) { return r * r * r + r; }};
  for (const auto& map : maps)
    for (std::size_t p = 0; p < kPrompts; ++p) {
      float last = -std::numeric_limits<float>::infinity();
      for (const auto& [reward, string] : world.by_reward[p]) {
        ASSERT_GT(map(reward), last) << "the map must stay strictly increasing after rounding";
        last = map(reward);
      }
    }
  for (const auto& [objective, estimator] :
       {std::pair{Objective::exact, Estimator::add_one}, std::pair{Objective::L, Estimator::add_one},
        std::pair{Objective::L, Estimator::harmonic}}) {
    const auto plain = weights_after_training(world, objective, estimator, [](float r) { return r; });
    EXPECT_FALSE(at::equal(plain[0], plain[1]));
    for (const auto& map : maps) {
      const auto mapped = weights_after_training(world, objective, estimator, map);
      for (std::size_t step = 0; step < plain.size(); ++step) EXPECT_TRUE(at::equal(plain[step], mapped[step]));
    }
  }
}

}  // namespace
}  // namespace vbon::truth
