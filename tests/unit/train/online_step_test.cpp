// One online step against the formulas written out over lists of tokens: scores from the table's counts, advantages by
// direct sums, and autograd of the clipped loss over one whole forward a sequence. On one rank and on two: the same
// source, the same numbers.
//
// The optimiser's first moment with beta1 = 0 and no clipping is the gradient of the last update.
#include <ATen/Parallel.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <set>

#include "support/world.hpp"
#include "unit/train/toy_world.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/rng.hpp"
#include "vbon/model/hf_weights.hpp"
#include "vbon/train/learner.hpp"

namespace vbon {
namespace {

using test::at_index;
using Rows = std::vector<std::vector<double>>;  // [B][length]

constexpr std::size_t kSequences = 9, kM = 7;

struct Case {
  const char* name;
  Method method = Method::vbon;
  VbonConfig vbon = {.n = 3.0};
  PpoConfig ppo;
  std::int64_t last = 0;
  test::ToyShape shape;
  double rounding = 1e-6;  // of the gradient, relative, between micro-batches
};

std::vector<Case> cases() {
  const auto ppo = [](Baseline baseline, KlForm form) {
    return PpoConfig{.epochs = 1, .baseline = baseline, .kl_form = form};
  };
  std::vector<Case> all = {
      {.name = "exact_rloo_exact_kl", .ppo = ppo(Baseline::rloo, KlForm::exact)},
      {.name = "exact_rloo_penalty_last2", .ppo = ppo(Baseline::rloo, KlForm::penalty), .last = 2},
      {.name = "exact_head_exact_kl", .ppo = ppo(Baseline::critic_head, KlForm::exact), .shape = {.tied = false}},
      {.name = "exact_head_penalty_last1",
       .ppo = ppo(Baseline::critic_head, KlForm::penalty),
       .last = 1,
       .shape = {.tied = false}},
      {.name = "exact_model_penalty_last1", .ppo = ppo(Baseline::critic_model, KlForm::penalty), .last = 1},
      {.name = "L_model_exact_kl",
       .vbon = {.beta = 0.25, .objective = Objective::L, .estimator = Estimator::harmonic},
       .ppo = ppo(Baseline::critic_model, KlForm::exact),
       .shape = {.tied = false}},
      {.name = "L1_rloo_exact_kl",
       .vbon = {.n = 3.0, .objective = Objective::L1},
       .ppo = ppo(Baseline::rloo, KlForm::exact)},
      {.name = "L1_none_penalty_scaled",
       .vbon = {.n = 2.0, .objective = Objective::L1, .scale = 0.3},
       .ppo = ppo(Baseline::none, KlForm::penalty)},
      {.name = "exact_none_not_whitened_cut_penalty",
       .vbon = {.n = 2.5},
       .ppo = ppo(Baseline::none, KlForm::exact),
       .shape = {.kind = test::ToyKind::gpt2},
       .rounding = 3e-6},  // advantages of one sign: what is left of large sums that nearly cancel
      {.name = "ppo_head_discounted", .method = Method::ppo, .ppo = ppo(Baseline::critic_head, KlForm::penalty)},
      {.name = "ppo_rloo_exact_kl", .method = Method::ppo, .ppo = ppo(Baseline::rloo, KlForm::exact), .last = 2},
  };
  all[8].ppo.whiten_advantages = false;
  all[8].ppo.missing_eos = MissingEos::penalty;
  all[8].ppo.missing_eos_penalty = 0.7;
  all[9].ppo.whiten_rewards = true;
  all[9].ppo.gamma = 0.97;
  all[9].ppo.lam = 0.9;
  all[9].ppo.value_coef = 0.5;
  all[9].ppo.kl_coef = 0.1;
  return all;
}

Settings settings_of(const Case& c) {
  Settings s;
  s.run.seed = 3;
  s.sampling = {.temperature = 0.8, .max_new_tokens = test::kToyTokens};
  s.train = {.method = c.method,
             .layers = {c.last},
             .prompts_per_step = test::kToyPrompts,
             .samples_per_prompt = test::kToySamples,
             .micro_batch = 4};
  s.vbon = c.vbon;
  s.ppo = c.ppo;
  s.optimizer = {.learning_rate = 1e-3,
                 .beta1 = 0,
                 .beta2 = 0.99,
                 .weight_decay = 0,
                 .schedule = Schedule::constant,
                 .clip_norm = 0};
  return s;
}

// Rewards with ties among themselves and with the table, one below and one above all of it.
const std::vector<float> kRewards = {0.5f, -1.25f, 2.0f, 9.0f, 0.25f, 0.25f, -9.0f, 1.0f, 0.75f};
const std::vector<float> kTable = {-2.0f, -1.25f, -1.25f, 0.25f, 0.5f,  2.0f,  3.0f,  //
                                   0.0f,  0.25f,  0.25f,  0.25f, 1.0f,  1.5f,  2.5f,  //
                                   -3.0f, -1.0f,  0.0f,   0.5f,  0.75f, 0.75f, 1.0f};

class Fixture {
 public:
  explicit Fixture(const Case& c, at::ScalarType dtype = at::kFloat)
      : settings(settings_of(c)), reference(test::toy_lm(c.shape, 31)) {
    for (const WeightEntry& entry : weight_table(reference.spec)) {
      at::Tensor& t = entry.target(reference);
      t = t.to(dtype);
    }
    tie_again(reference);
    at::set_num_threads(1);
    prompts = test::toy_prompts();
    learner = make_learner(reference, settings, *group);
    if (dtype == at::kFloat) {
      test::disturb_all(trained_parameters(learner->policy), 0.03, 70);
      test::disturb_all(trained_parameters(learner->critic), 0.2, 90);
    }
    batch = test::toy_rollouts(prompts);
    batch.reward = kRewards;
    // Drawn by a policy that was a little different: ratios on both sides of the clip range.
    const at::NoGradGuard no_grad;
    const RandomStream noise(6, Purpose::subset);
    for (std::size_t i = 0; i < kSequences; ++i) {
      const auto logp = test::numbers(of(i).logp);
      for (std::size_t t = 0; t < test::kToyTokens; ++t)
        batch.logp_behavior.push_back(
            t < logp.size() ? static_cast<float>(logp[t] + 0.25 * noise.normal(static_cast<std::int64_t>(i),
                                                                               static_cast<std::int32_t>(t)))
                            : std::nanf(""));
    }
  }

  Metrics step(std::int64_t number = 0) {
    const std::vector<std::int64_t> rows = {0, 1, 2}, table_row = {2, 0, 1};  // prompts lie elsewhere in the table
    Phases phases;
    const LearnerTools tools{
        .settings = settings, .phases = phases, .prompts = prompts, .ranks = ranks_of_table(table, table_row)};
    return online_step(*learner, tools, batch, rows, number, 0, settings.ppo.epochs * settings.train.minibatches);
  }
  test::TokensByDefinition of(std::size_t i) const {
    return test::tokens_by_definition(learner->policy.model, reference, sequence(i), settings.sampling.temperature);
  }
  at::Tensor values(std::size_t i, const test::TokensByDefinition& tokens) const {
    const Critic& critic = learner->critic;
    const at::Tensor hidden =
        critic.kind == Baseline::critic_head ? tokens.hidden : test::rows_that_predict(critic.model.model, sequence(i));
    return ((hidden * critic.head.weight).sum(1) + critic.head.bias).to(at::kDouble);
  }
  Sequence sequence(std::size_t i) const { return test::sequence_of(prompts, batch, i); }
  std::size_t length(std::size_t i) const { return static_cast<std::size_t>(batch.length[i]); }
  at::Tensor last_gradient() const { return learner->parallel->moments().first; }

  Settings settings;
  CausalLm reference;
  PromptRows prompts;
  std::unique_ptr<LearnerState> learner;
  RolloutBatch batch;
  LogFTable table{kTable, 3, settings.vbon.estimator};
  std::unique_ptr<comm::Collectives> group = comm::make_collectives(test::world().dup("test"), comm::Backend::host);
};

// What a step is made of, by the formulas.
struct Expected {
  double kl_weight = 0, entropy_weight = 0;
  std::vector<double> score, log_f, log_w;   // [B]
  Rows logp, logp_ref, kl, entropy, values;  // before the step
  Rows advantages, returns;
  double advantage_sd = 0, direct = 0;  // of the direct gradients: the whitening's factor
  double win = 0, floor = 0, ceiling = 0, tokens = 0;
};

void scores(const Fixture& f, Expected& e) {
  const bool ppo = f.settings.train.method == Method::ppo;
  const double n = f.settings.vbon.n ? *f.settings.vbon.n : 1 / *f.settings.vbon.beta + 1,
               scale = f.settings.vbon.scale.value_or(1 / (n - 1));
  const std::size_t table_row[] = {2, 0, 1};
  for (std::size_t i = 0; i < kSequences; ++i) {
    double lt = 0, le = 0;
    for (std::size_t m = 0; m < kM; ++m) {
      lt += kTable[table_row[i / 3] * kM + m] < kRewards[i] ? 1 : 0;
      le += kTable[table_row[i / 3] * kM + m] <= kRewards[i] ? 1 : 0;
    }
    e.win += (lt + le) / 2 / kM / kSequences;
    e.floor += (lt == 0 ? 1.0 : 0.0) / kSequences;
    e.ceiling += (lt == kM ? 1.0 : 0.0) / kSequences;
    const double strict = lt / (kM + 1), whole = (le + 1) / (kM + 1);
    e.log_w.push_back(std::log((std::pow(whole, n) - std::pow(strict, n)) / (whole - strict)));
    double log_f = std::log((lt + 1) / (kM + 1));
    if (f.settings.vbon.estimator == Estimator::harmonic) {
      log_f = 0;
      for (int k = static_cast<int>(lt) + 1; k <= static_cast<int>(kM); ++k) log_f -= 1.0 / k;
    }
    e.log_f.push_back(log_f);
    double score = kRewards[i];
    if (!ppo) {
      const Objective objective = f.settings.vbon.objective;
      score = scale * (objective == Objective::exact ? e.log_w.back()
                                                     : (objective == Objective::L ? n - 1 : n * (n - 1) / 2) * log_f);
      e.kl_weight = scale * (objective == Objective::L1 ? n * (n + 1) / 2 : 1);
      e.entropy_weight = objective == Objective::L1 ? scale * (n + 2) * (n - 1) / 2 : 0;
    } else {
      e.kl_weight = f.settings.ppo.kl_coef.value_or(0.05);
    }
    if (f.settings.ppo.missing_eos == MissingEos::penalty && f.batch.finished[i] == 0)
      score -= f.settings.ppo.missing_eos_penalty;
    e.score.push_back(score);
  }
}

double mean_of(const Rows& rows) {
  double sum = 0, count = 0;
  for (const auto& row : rows) {
    sum += std::accumulate(row.begin(), row.end(), 0.0);
    count += static_cast<double>(row.size());
  }
  return sum / count;
}
double variance_of(const Rows& rows) {
  Rows squares = rows;
  const double mean = mean_of(rows);
  for (auto& row : squares)
    for (double& v : row) v = (v - mean) * (v - mean);
  return mean_of(squares);
}

// Cost of each token, paid where the form says.
Rows costs(const Fixture& f, const Expected& e) {
  Rows cost = e.kl;
  for (std::size_t i = 0; i < cost.size(); ++i)
    for (std::size_t t = 0; t < cost[i].size(); ++t)
      cost[i][t] = f.settings.ppo.kl_form == KlForm::exact
                       ? e.kl_weight * e.kl[i][t] + e.entropy_weight * e.entropy[i][t]
                       : e.kl_weight * (e.logp[i][t] - e.logp_ref[i][t]) - e.entropy_weight * e.logp[i][t];
  return cost;
}

void advantages(const Fixture& f, Expected& e) {
  const PpoConfig& ppo = f.settings.ppo;
  const Rows cost = costs(f, e);
  // Rewards of actions: minus the own cost (penalty) or the next token's (exact: one's own has a gradient of its own).
  Rows rewards = cost;
  for (auto& row : rewards)
    for (std::size_t t = 0; t < row.size(); ++t)
      row[t] = ppo.kl_form == KlForm::penalty ? -row[t] : t + 1 < row.size() ? -row[t + 1] : 0;
  const auto to_go = [](const std::vector<double>& row, std::size_t t) {
    return t < row.size() ? std::accumulate(row.begin() + static_cast<std::ptrdiff_t>(t), row.end(), 0.0) : 0.0;
  };
  e.advantages = e.returns = rewards;
  for (std::size_t i = 0; i < kSequences; ++i)
    for (std::size_t t = 0; t < rewards[i].size(); ++t) {
      double baseline = 0;
      for (std::size_t j = i / 3 * 3; ppo.baseline == Baseline::rloo && j < i / 3 * 3 + 3; ++j)
        if (j != i) baseline += (e.score[j] + to_go(rewards[j], t)) / 2;
      e.returns[i][t] = e.score[i] + to_go(rewards[i], t);
      e.advantages[i][t] = e.returns[i][t] - baseline;
    }
  if (f.learner->critic.exists()) {
    for (std::size_t i = 0; i < kSequences; ++i) rewards[i].back() += e.score[i];
    const double factor = ppo.whiten_rewards ? 1 / std::sqrt(variance_of(rewards) + 1e-8) : 1;  // keeps the mean
    const double mean = mean_of(rewards);
    for (auto& row : rewards)
      for (double& v : row) v = (v - mean) * factor + mean;
    for (std::size_t i = 0; i < kSequences; ++i)
      for (std::size_t t = 0; t < rewards[i].size(); ++t) {
        double sum = 0;  // sum over s of (gamma lam)^(s-t) (r + gamma v' - v)
        for (std::size_t s = t; s < rewards[i].size(); ++s) {
          const double next = s + 1 < rewards[i].size() ? e.values[i][s + 1] : 0;
          sum += std::pow(ppo.gamma * ppo.lam, static_cast<double>(s - t)) *
                 (rewards[i][s] + ppo.gamma * next - e.values[i][s]);
        }
        e.advantages[i][t] = sum;
        e.returns[i][t] = sum + e.values[i][t];
      }
  }
  const double variance = variance_of(e.advantages), mean = mean_of(e.advantages);
  e.advantage_sd = std::sqrt(variance);
  e.direct = ppo.kl_form == KlForm::exact ? 1 : 0;
  if (!ppo.whiten_advantages) return;
  for (auto& row : e.advantages)
    for (double& v : row) v = (v - mean) / std::sqrt(variance + 1e-8);
  e.direct /= std::sqrt(variance + 1e-8);
}

Expected expected_of(const Fixture& f) {
  const at::NoGradGuard no_grad;
  Expected e;
  scores(f, e);
  for (std::size_t i = 0; i < kSequences; ++i) {
    const auto tokens = f.of(i);
    e.logp.push_back(test::numbers(tokens.logp));
    e.logp_ref.push_back(test::numbers(tokens.logp_ref));
    e.kl.push_back(test::numbers(tokens.kl));
    e.entropy.push_back(test::numbers(tokens.entropy));
    if (f.learner->critic.exists()) e.values.push_back(test::numbers(f.values(i, tokens)));
    e.tokens += static_cast<double>(f.length(i));
  }
  advantages(f, e);
  return e;
}

// The loss of some sequences with the learner's present weights, and its parts.
struct Loss {
  at::Tensor value;
  double policy = 0, critic = 0, direct = 0, tokens = 0, clipped = 0, values_clipped = 0, ratio = 0, squared = 0,
         worst = 0;
};

Loss loss_by_definition(const Fixture& f, const Expected& e, const std::vector<std::int64_t>& members) {
  const PpoConfig& ppo = f.settings.ppo;
  Loss out;
  at::Tensor policy = at::zeros({}, at::kDouble), critic = policy, direct = policy;
  for (const std::int64_t m : members) {
    const std::size_t i = at_index(m);
    const auto tokens = f.of(i);
    const auto row = [&](const std::vector<double>& values) { return at::tensor(values, at::kDouble); };
    const std::vector<double> behavior(f.batch.logp_behavior.begin() + m * test::kToyTokens,
                                       f.batch.logp_behavior.begin() + m * test::kToyTokens + f.batch.length[i]);
    const at::Tensor log_ratio = tokens.logp - row(behavior), ratio = log_ratio.exp(), a = row(e.advantages[i]);
    const at::Tensor plain = -a * ratio, limited = -a * ratio.clamp(1 - ppo.clip, 1 + ppo.clip);
    policy = policy + at::maximum(plain, limited).sum();
    direct = direct + e.direct * (e.kl_weight * tokens.kl + e.entropy_weight * tokens.entropy).sum();
    out.clipped += (limited > plain).sum().item<double>();
    out.ratio += ratio.sum().item<double>();
    out.squared += log_ratio.square().sum().item<double>();
    out.worst = std::max(out.worst, log_ratio.abs().max().item<double>());
    out.tokens += static_cast<double>(f.length(i));
    if (!f.learner->critic.exists()) continue;
    const at::Tensor v = f.values(i, tokens), old = row(e.values[i]), target = row(e.returns[i]);
    const at::Tensor near = at::maximum(at::minimum(v, old + ppo.value_clip), old - ppo.value_clip);
    critic = critic + 0.5 * at::maximum((v - target).square(), (near - target).square()).sum();
    out.values_clipped += ((near - target).square() > (v - target).square()).sum().item<double>();
  }
  out.value = (policy + direct + ppo.value_coef * critic) / out.tokens;
  out.policy = policy.item<double>() / out.tokens;
  out.direct = direct.item<double>() / out.tokens;
  out.critic = critic.item<double>() / out.tokens;
  return out;
}

std::vector<std::int64_t> everyone() {
  std::vector<std::int64_t> all(kSequences);
  std::iota(all.begin(), all.end(), 0);
  return all;
}

// Autograd's, in the learner's own flat layout.
at::Tensor gradient_of(Fixture& f, const at::Tensor& loss) {
  f.learner->parameters.zero_gradients();
  loss.backward();
  const at::Tensor gradient = f.learner->parameters.gradients().clone();
  f.learner->parameters.zero_gradients();
  return gradient;
}

class OnlineStep : public testing::TestWithParam<Case> {};

TEST_P(OnlineStep, gradient_is_autograds_of_the_formula) {
  Fixture f(GetParam());
  const Loss loss = loss_by_definition(f, expected_of(f), everyone());
  ASSERT_GT(loss.clipped, 2) << "the clip must matter";
  const at::Tensor want = gradient_of(f, loss.value);
  f.step();
  EXPECT_LE(test::relative_difference(f.last_gradient(), want), 1e-5);
  const std::int64_t of_policy = f.learner->policy_size;
  if (of_policy < want.numel()) {
    EXPECT_LE(test::relative_difference(f.last_gradient().narrow(0, of_policy, want.numel() - of_policy),
                                        want.narrow(0, of_policy, want.numel() - of_policy)),
              1e-5);
  }
}

TEST_P(OnlineStep, second_epoch_keeps_the_first_ones_advantages_and_clips_against_the_draws) {
  Fixture once(GetParam()), twice(GetParam());
  twice.settings.ppo.epochs = 2;
  for (Fixture* f : {&once, &twice}) {
    f->settings.optimizer.learning_rate = 4e-3;
    f->settings.ppo.value_clip = 0.02;
  }
  const Expected before = expected_of(once);
  once.step();
  const Loss loss = loss_by_definition(once, before, everyone());  // with the weights after one update
  const at::Tensor want = gradient_of(once, loss.value);
  if (once.learner->critic.exists()) {
    ASSERT_GT(loss.values_clipped, 0) << "the value clip must matter";
  }
  twice.step();
  EXPECT_LE(test::relative_difference(twice.last_gradient(), want), 1e-5);
  EXPECT_EQ(twice.learner->parallel->optimizer().num_steps(), 2);
}

void expect_column(const Fixture& f, const std::vector<float>& column, const Rows& want, const char* what) {
  ASSERT_EQ(column.size(), kSequences * test::kToyTokens) << what;
  for (std::size_t i = 0; i < kSequences; ++i)
    for (std::size_t t = 0; t < test::kToyTokens; ++t) {
      const float got = column[i * test::kToyTokens + t];
      if (t < f.length(i)) {
        EXPECT_NEAR(got, want[i][t], 3e-5 * std::max(1.0, std::abs(want[i][t])))
            << what << ", sequence " << i << ", token " << t;
      } else {
        EXPECT_TRUE(std::isnan(got)) << what << " behind the response";
      }
    }
}

double sum_of(const Rows& rows) {
  double sum = 0;
  for (const auto& row : rows) sum += std::accumulate(row.begin(), row.end(), 0.0);
  return sum;
}

TEST_P(OnlineStep, columns_and_metrics_are_those_of_the_formula) {
  Fixture f(GetParam());
  const Expected e = expected_of(f);
  const Loss loss = loss_by_definition(f, e, everyone());
  const at::Tensor gradient = gradient_of(f, loss.value);
  const Metrics m = f.step();
  expect_column(f, f.batch.logp_reference, e.logp_ref, "logp_reference");
  expect_column(f, f.batch.kl, e.kl, "kl");
  expect_column(f, f.batch.entropy, e.entropy, "entropy");
  expect_column(f, f.batch.advantage, e.advantages, "advantage");
  expect_column(f, f.batch.returns, e.returns, "returns");
  const bool critic = f.learner->critic.exists(), vbon = f.settings.train.method == Method::vbon;
  if (critic) expect_column(f, f.batch.value, e.values, "value");
  EXPECT_EQ(f.batch.value.empty(), !critic);

  const double count = kSequences, kl = sum_of(e.kl) / count;
  const auto mean = [&](const auto& values) { return std::accumulate(values.begin(), values.end(), 0.0) / count; };
  double reward_variance = 0;
  for (const float r : kRewards) reward_variance += (r - mean(kRewards)) * (r - mean(kRewards)) / count;
  std::map<std::string, double> want = {
      {"reward", mean(kRewards)},
      {"reward_sd", std::sqrt(reward_variance)},
      {"kl", kl},
      {"kl_sampled", (sum_of(e.logp) - sum_of(e.logp_ref)) / count},
      {"entropy", mean_of(e.entropy)},
      {"length", e.tokens / count},
      {"finished", 7.0 / 9},
      {"advantage_sd", e.advantage_sd},
      {"policy_loss", loss.policy},
      {"clip_fraction", loss.clipped / e.tokens},
      {"ratio_mean", loss.ratio / e.tokens},
      {"approx_kl", 0.5 * loss.squared / e.tokens},
      {"ratio_error", loss.worst},
      {"grad_norm", gradient.norm().item<double>()},
      {"learning_rate", 1e-3},
      {"log_f", mean(e.log_f)},
      {"floor_share", e.floor},
      {"ceiling_share", e.ceiling},
      {"win", e.win},
      {"objective", mean(e.score) - e.kl_weight * kl - e.entropy_weight * sum_of(e.entropy) / count}};
  if (vbon) want["kl_to_bon"] = kl - mean(e.log_w);
  if (!vbon) want["kl_coef"] = e.kl_weight;
  if (e.direct > 0) want["direct_loss"] = loss.direct;
  if (critic) {
    Rows residuals = e.returns;
    for (std::size_t i = 0; i < kSequences; ++i)
      for (std::size_t t = 0; t < residuals[i].size(); ++t) residuals[i][t] -= e.values[i][t];
    want["value_loss"] = loss.critic;
    want["value_clip_fraction"] = 0;  // values have not moved yet
    want["explained_variance"] = 1 - variance_of(residuals) / variance_of(e.returns);
  }
  for (const auto& [name, value] : want) {
    ASSERT_TRUE(m.contains(name)) << name;
    EXPECT_NEAR(m.at(name), value, 3e-5 * std::max(1.0, std::abs(value))) << name;
  }
  for (const auto& [name, value] : m) EXPECT_TRUE(want.contains(name)) << name << " has no formula here";
}

TEST_P(OnlineStep, micro_batches_change_rounding_alone) {
  at::Tensor whole;
  for (const std::int64_t micro : {100, 1, 2, 5}) {
    Fixture f(GetParam());
    f.settings.train.micro_batch = micro;
    if (micro == 2) f.settings.train.reference_cache_mib = 0;
    f.step();
    if (!whole.defined()) whole = f.last_gradient();
    EXPECT_LE(test::relative_difference(f.last_gradient(), whole), GetParam().rounding) << micro;
  }
}

INSTANTIATE_TEST_SUITE_P(Formula, OnlineStep, testing::ValuesIn(cases()),
                         [](const auto& test_info) { return std::string(test_info.param.name); });

TEST(OnlineStep, a_minibatch_is_normalised_by_its_own_tokens_in_keyed_order) {
  Fixture f(cases()[0]);
  f.settings.train.minibatches = 4;
  f.settings.ppo.epochs = 3;
  f.settings.optimizer.learning_rate = 1e-12;  // weights stay
  const std::vector<std::int64_t> order =
      permutation(RandomStream(3, Purpose::minibatch, 0, /*step=*/5), kSequences, /*epoch*/ 2);
  const std::vector<std::int64_t> last(order.begin() + 3 * 9 / 4, order.end());
  const at::Tensor want = gradient_of(f, loss_by_definition(f, expected_of(f), last).value);
  f.step(/*number=*/5);
  EXPECT_LE(test::relative_difference(f.last_gradient(), want), 1e-5);
  EXPECT_EQ(f.learner->parallel->optimizer().num_steps(), 12);
}

TEST(OnlineStep, best_of_one_teaches_nothing) {
  for (Case c : {cases()[0], cases()[1]}) {
    c.vbon = {.n = 1.0};
    Fixture f(c);
    const at::Tensor before = f.learner->parameters.values().clone();
    const Metrics m = f.step();
    EXPECT_EQ(f.last_gradient().norm().item<double>(), 0);
    EXPECT_TRUE(f.learner->parameters.values().equal(before));
    EXPECT_NEAR(m.at("kl_to_bon"), m.at("kl"), 1e-12);
  }
}

TEST(OnlineStep, adaptive_coefficient_moves_against_the_error) {
  for (const double target : {0.01, 1e6}) {
    Case c = cases()[9];
    c.ppo.adaptive_kl = true;
    c.ppo.kl_target = target;
    c.ppo.kl_horizon = 90;
    Fixture f(c);
    ASSERT_GT(f.step().at("kl"), 0.02);
    EXPECT_NEAR(f.learner->kl_coef, 0.1 * (1 + (target < 1 ? 0.2 : -0.2) * 9 / 90), 1e-9);
  }
}

TEST(OnlineStep, weights_that_broke_are_told_with_the_prompts) {
  Fixture f(cases()[0]);
  f.batch.logp_behavior.assign(f.batch.logp_behavior.size(), -500.0f);  // ratios beyond float32
  const at::Tensor before = f.learner->parameters.values().clone();
  try {
    f.step(4);
    FAIL() << "accepted";
  } catch (const UserError& e) {
    EXPECT_THAT(e.what(), testing::AllOf(testing::HasSubstr("not finite"), testing::HasSubstr("step 4"),
                                         testing::HasSubstr("11")));
  }
  EXPECT_TRUE(f.learner->parameters.values().equal(before));
}

// Two updates of a bfloat16 policy with float32 masters: near those of float32, from the same samples.
TEST(OneStep, bfloat16_follows_float32) {
  const std::vector<Case> all = cases();
  for (const Case& c : {all[1], all[9]}) {
    Fixture exact(c), low(c, at::kBFloat16);
    for (Fixture* f : {&exact, &low}) {
      f->settings.optimizer.learning_rate = 1e-4;
      f->learner = make_learner(f->reference, f->settings, *f->group);
    }
    low.batch = exact.batch;
    ASSERT_EQ(low.learner->policy.model.dtype(), at::kBFloat16);
    const at::Tensor before = low.learner->parameters.values().clone();
    Metrics want, got;
    for (std::int64_t step = 0; step < 2; ++step) {
      want = exact.step(step);
      got = low.step(step);
    }
    EXPECT_NEAR(got.at("entropy"), want.at("entropy"), 0.05 * want.at("entropy"));
    EXPECT_NEAR(got.at("grad_norm"), want.at("grad_norm"), 0.2 * want.at("grad_norm"));
    const at::Tensor a = low.last_gradient(), b = exact.last_gradient();
    EXPECT_GT(((a * b).sum() / (a.norm() * b.norm())).item<float>(), 0.9) << c.name;
    // Masters move by less than the tensors can show.
    const at::Tensor moved = (low.learner->parameters.values() - before).abs();
    EXPECT_GT(moved.max().item<float>(), 0);
    EXPECT_LT(moved.max().item<float>(), 1e-3f);
    const auto difference = [&](const Fixture& f) { return f.learner->parameters.values().narrow(0, 0, 500); };
    EXPECT_LE((difference(low) - difference(exact)).abs().max().item<float>(), 0.01f);
  }
}

}  // namespace
}  // namespace vbon
