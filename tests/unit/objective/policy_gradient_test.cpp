// The whole chain on a language model whose every string can be listed: the expected gradient of the loop's loss, from
// rewards over advantages and whitening to the direct KL term, is the gradient of the objective times the whitening
// factor, for each KL form, baseline and objective; and following it leads to pi_bon, with the N that was asked for.
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <tuple>
#include <vector>

#include "vbon/objective/bon.hpp"
#include "vbon/objective/enumerated.hpp"
#include "vbon/objective/ppo.hpp"
#include "vbon/objective/vbon.hpp"

namespace vbon {
namespace {

// Three tokens, 0 ends a response, at most two positions: strings 0, 10, 11, 12, 20, 21, 22 over the prefixes "", 1, 2.
constexpr std::int64_t kStrings = 7, kPositions = 2;
at::Tensor table(std::initializer_list<std::int64_t> values) {
  return at::tensor(std::vector<std::int64_t>(values), at::kLong).reshape({kStrings, kPositions});
}
at::Tensor string_prefixes() { return table({0, 0, 0, 1, 0, 1, 0, 1, 0, 2, 0, 2, 0, 2}); }
at::Tensor string_tokens() { return table({0, 0, 1, 0, 1, 1, 1, 2, 2, 0, 2, 1, 2, 2}); }
at::Tensor string_mask() { return response_mask(at::tensor({1, 2, 2, 2, 2, 2, 2}, at::kLong), kPositions); }

struct Forward {
  at::Tensor logp, kl, entropy;  // [S, T]
  at::Tensor log_pi;             // [S]
};
Forward forward(const at::Tensor& logits) {  // [3, 3], a row a prefix
  const at::Tensor all = at::log_softmax(logits, 1);
  const auto per_token = [](const at::Tensor& rows) {
    return rows.index_select(0, string_prefixes().reshape(-1)).reshape({kStrings, kPositions});
  };
  Forward f;
  f.logp = all.index_select(0, string_prefixes().reshape(-1))
               .gather(1, string_tokens().reshape({-1, 1}))
               .reshape({kStrings, kPositions});
  f.entropy = per_token(-(all.exp() * all).sum(1));
  f.log_pi = (f.logp * string_mask()).sum(1);
  return f;
}

std::vector<double> to_vector(const at::Tensor& x) {
  const at::Tensor flat = x.detach().contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

struct World {
  at::Tensor reference_logits;  // [3, 3]
  Forward reference;
  std::vector<Quantiles> quantiles;  // [S]
  std::vector<double> pi_ref;

  explicit World(std::vector<double> rewards)
      : reference_logits(at::randn({3, 3}, at::kDouble)), reference(forward(reference_logits)) {
    pi_ref = to_vector(reference.log_pi.exp());
    quantiles = enumerated_quantiles(pi_ref, rewards, Ties::uniform);
  }
  at::Tensor exact_kl(const at::Tensor& logits) const {  // [S, T]
    const at::Tensor all = at::log_softmax(logits, 1), ref = at::log_softmax(reference_logits, 1);
    return (all.exp() * (all - ref))
        .sum(1)
        .index_select(0, string_prefixes().reshape(-1))
        .reshape({kStrings, kPositions});
  }
};

struct Setting {
  VbonConfig vbon;
  KlForm form;
  Baseline baseline;
};

struct Step {
  at::Tensor loss;    // scalar, differentiable: expectation over the policy of the loop's loss
  double factor = 1;  // whitening
};

// One step of the loop in expectation: every possible batch (a sample; for rloo a pair) with its probability.
Step expected_step(const World& world, const at::Tensor& logits, const Setting& s) {
  const Forward f = forward(logits);
  const at::Tensor pi = f.log_pi.exp().detach();
  const bool pairs = s.baseline == Baseline::rloo;
  std::vector<std::int64_t> rows;
  std::vector<double> probability;
  const auto p = to_vector(pi);
  for (std::int64_t y = 0; y < kStrings; ++y)
    for (std::int64_t z = 0; z < (pairs ? kStrings : 1); ++z) {
      rows.push_back(y);
      probability.push_back(pairs ? 0.5 * p[static_cast<std::size_t>(y)] * p[static_cast<std::size_t>(z)]
                                  : p[static_cast<std::size_t>(y)]);
      if (!pairs) continue;
      rows.push_back(z);
      probability.push_back(probability.back());
    }
  const at::Tensor index = at::tensor(rows, at::kLong), weight = at::tensor(probability, at::kDouble).unsqueeze(1);
  const auto of_rows = [&](const at::Tensor& x) { return x.index_select(0, index); };

  std::vector<double> scores;
  ObjectiveNats objective;
  for (const Quantiles& q : world.quantiles) {
    objective = scaled_objective(s.vbon, {.log_f = q.f_strict > 0 ? std::log(q.f_strict) : -9.0, .exact = q});
    scores.push_back(objective.reward);
  }
  const CostWeights weights{.kl = objective.kl, .entropy = objective.entropy};
  const at::Tensor mask = of_rows(string_mask()), logp = of_rows(f.logp), kl = of_rows(world.exact_kl(logits));
  const at::Tensor entropy = of_rows(f.entropy), score = of_rows(at::tensor(scores, at::kDouble));
  const at::Tensor cost = s.form == KlForm::penalty ? sampled_cost(logp, of_rows(world.reference.logp), mask, weights)
                                                    : exact_cost(kl, entropy, mask, weights);
  at::Tensor advantages;
  if (s.baseline == Baseline::rloo || s.baseline == Baseline::none) {
    advantages = sequence_advantages(score, cost, mask, s.form, s.baseline, 2).advantages;
  } else {  // any function of the prefix may be the critic when lambda is 1
    const at::Tensor values = of_rows(at::tensor({0.3, -0.8, 1.1}, at::kDouble)
                                          .index_select(0, string_prefixes().reshape(-1))
                                          .reshape({kStrings, kPositions}));
    advantages = gae(token_rewards(score, cost, mask, s.form), values, mask, 1.0, 1.0).advantages;
  }
  const at::Tensor weighted = weight * mask;
  const Moments moments{.count = weighted.sum().item<double>(),
                        .sum = (weighted * advantages).sum().item<double>(),
                        .sum_squares = (weighted * advantages * advantages).sum().item<double>()};
  const Whitening w = whitening(moments, true);
  const PolicyLoss policy = policy_loss(logp, logp.detach(), whitened(advantages, mask, moments, true), mask, 0.2);
  const CostWeights direct = direct_weights(weights, s.form, w);
  const at::Tensor direct_cost = direct.kl * kl + direct.entropy * entropy;
  return {.loss = (weight * (policy.gradient * logp + direct_cost * mask)).sum(), .factor = w.factor};
}

// The scaled objective itself, by enumeration.
at::Tensor enumerated_value(const World& world, const at::Tensor& logits, const VbonConfig& config) {
  const Forward f = forward(logits);
  std::vector<double> scores;
  ObjectiveNats o;
  for (const Quantiles& q : world.quantiles) {
    o = scaled_objective(config, {.log_f = q.f_strict > 0 ? std::log(q.f_strict) : -9.0, .exact = q});
    scores.push_back(o.reward);
  }
  return (f.log_pi.exp() *
          (at::tensor(scores, at::kDouble) - o.kl * (f.log_pi - world.reference.log_pi) + o.entropy * f.log_pi))
      .sum();
}

using Chain = std::tuple<Objective, KlForm, Baseline>;
class PolicyGradient : public ::testing::TestWithParam<Chain> {
 protected:
  // Tensors of a few numbers: a second thread only costs waiting, much of it on a busy machine.
  void SetUp() override { at::set_num_threads(1); }
};

TEST_P(PolicyGradient, is_that_of_the_objective_times_the_whitening_factor) {
  const auto [objective, form, baseline] = GetParam();
  for (const double n : {2.0, 5.0}) {
    for (int round = 0; round < 5; ++round) {
      const World world({0.1, 2, 2, -1, 0.5, 3, -1});
      at::Tensor a = at::randn({3, 3}, at::kDouble).requires_grad_(), b = a.detach().clone().requires_grad_();
      const VbonConfig config{.n = n, .objective = objective};
      const Step step = expected_step(world, a, {config, form, baseline});
      step.loss.backward();
      enumerated_value(world, b, config).backward();
      const at::Tensor expected = -step.factor * b.grad();
      EXPECT_LT((a.grad() - expected).abs().max().item<double>(), 1e-12 * (1 + expected.abs().max().item<double>()));
      EXPECT_NE(step.factor, 1);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, PolicyGradient,
                         ::testing::Combine(::testing::Values(Objective::exact, Objective::L, Objective::L1),
                                            ::testing::Values(KlForm::penalty, KlForm::exact),
                                            ::testing::Values(Baseline::none, Baseline::rloo, Baseline::critic_head)));

class PolicyGradientAscent : public ::testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(1); }
};

TEST_F(PolicyGradientAscent, ends_at_best_of_n_with_that_n) {
  for (const KlForm form : {KlForm::penalty, KlForm::exact}) {
    for (const double n : {2.0, 4.0, 16.0}) {
      const World world({0.1, 2, 2, -1, 0.5, 3, -1});
      at::Tensor logits = world.reference_logits.clone();
      for (int step = 0; step < 40; ++step) {
        at::Tensor x = logits.detach().requires_grad_();
        const Step s = expected_step(world, x, {{.n = n}, form, Baseline::none});
        s.loss.backward();
        const at::NoGradGuard no_grad;
        // The natural gradient of softmax rows; half of the step that would solve one row at once.
        const at::Tensor pi = at::log_softmax(x, 1).exp();  // [3, 3]
        const at::Tensor reach = at::cat({at::ones({1}, at::kDouble), pi.select(0, 0).narrow(0, 1, 2)}).unsqueeze(1);
        logits = logits - 0.5 * (n - 1) / s.factor * x.grad() / (reach * pi);
      }
      const auto log_pi = to_vector(forward(logits).log_pi);
      EXPECT_LT(enumerated_kl(log_pi, enumerated_log_bon(world.pi_ref, world.quantiles, n)), 1e-6) << "N=" << n;
      EXPECT_NEAR(effective_n(log_pi, world.quantiles) / n, 1, 1e-2);
    }
  }
}

}  // namespace
}  // namespace vbon
