// Regression on the pool against autograd of (log pi/pi_ref - log w_N)^2, the prompt's mean taken off or not, residuals
// counting linearly beyond the limit, with every sample's own reward left out of its table. On one rank and on two.
#include <ATen/Parallel.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <set>
#include <tuple>

#include "unit/train/pool_fixture.hpp"
#include "vbon/train/regression.hpp"

namespace vbon {
namespace {

using test::kM;
using test::kPool;
using Fixture = test::PoolFixture;

at::Tensor clipped_square(const at::Tensor& residual, double limit) {
  if (limit == 0) return residual.square();
  return at::where(residual.abs() > limit, 2 * limit * residual.abs() - limit * limit, residual.square());
}

TEST(RegressionStep, gradient_and_metrics_are_those_of_the_formula) {
  for (const auto& [last, limit, center] : std::vector<std::tuple<std::int64_t, double, bool>>{{0, 0.0, false},
                                                                                               {0, 2.0, false},
                                                                                               {1, 0.0, false},
                                                                                               {1, 2.0, false},
                                                                                               {0, 0.0, true},
                                                                                               {0, 2.0, true},
                                                                                               {1, 2.0, true}}) {
    SCOPED_TRACE(fmt::format("last {} layers, limit {}, center {}", last, limit, center));
    Fixture f(limit, center, kPool, last);
    at::Tensor loss;
    double squares = 0, sizes = 0, beyond = 0, log_ratio = 0, tokens = 0;
    for (std::size_t i = 0; i < kPool; ++i) {
      const at::Tensor residual = f.deviation(i), term = clipped_square(residual, limit) / kPool;
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
    EXPECT_LE(test::relative_difference(f.learner->parallel->moments().first, want), 1e-5);
    const std::map<std::string, double> figures = {
        {"loss", squares},        {"residual", sizes}, {"residual_clipped", beyond / kPool},
        {"log_ratio", log_ratio}, {"length", tokens},  {"grad_norm", want.norm().item<double>()},
        {"learning_rate", 1e-12}};
    EXPECT_EQ(m.size(), figures.size());
    for (const auto& [name, value] : figures)
      EXPECT_NEAR(m.at(name), value, 3e-5 * std::max(1.0, std::abs(value))) << name;
  }
}

TEST(RegressionStep, importance_weighs_samples_by_a_power_of_w) {
  for (const bool center : {false, true}) {
    constexpr double kPower = 0.5;
    Fixture f(0, center);
    f.settings.regression.importance = kPower;
    at::Tensor loss;
    for (std::size_t row = 0; row < kPool / kM; ++row) {
      std::vector<at::Tensor> residual;
      std::vector<double> weight;
      double all = 0;
      for (std::size_t i = row * kM; i < row * kM + kM; ++i) {
        residual.push_back(f.residual(i));
        const double log_w = (f.logp(i) - residual.back()).item<double>() - f.logp_reference(i);
        weight.push_back(std::exp(kPower * log_w));
        all += weight.back();
      }
      at::Tensor mean = at::zeros_like(residual[0]);
      for (std::size_t k = 0; k < kM; ++k) mean = mean + residual[k] * (weight[k] / all);
      for (std::size_t k = 0; k < kM; ++k) {
        const at::Tensor r = center ? residual[k] - mean : residual[k];
        const at::Tensor term = r.square() * (weight[k] * static_cast<double>(kM) / all / kPool);
        loss = loss.defined() ? loss + term : term;
      }
    }
    const at::Tensor want = f.gradient_of(loss);
    const Metrics m = f.step(0);
    EXPECT_LE(test::relative_difference(f.learner->parallel->moments().first, want), 1e-5) << "center " << center;
    EXPECT_NEAR(m.at("loss"), loss.item<double>(), 3e-5 * loss.item<double>());
  }
}

TEST(RegressionStep, rows_that_the_pool_kept_stand_for_the_trunk) {
  const auto gradient = [](std::int64_t block_off, float scale) {  // scale 0: nothing kept
    Fixture f(0, true, kPool, 1);
    const std::int64_t first = f.learner->policy.first_trained_block;
    EXPECT_GT(first, 0);
    TrunkRows& kept = f.pool.block.trunk;
    for (std::size_t i = 0; scale != 0 && i < kPool; ++i) {
      const std::vector<Sequence> one = {f.sequence(i)};
      const at::Tensor rows = run_trunk(f.reference, pack(one, at::kCPU), first)[0] * scale;
      kept.block = first + block_off;
      kept.width = rows.size(1);
      const float* values = rows.const_data_ptr<float>();
      const auto prompt = static_cast<std::int64_t>(one[0].prompt.size()) * kept.width;
      if (i % kM == 0) kept.prompt.insert(kept.prompt.end(), values, values + prompt);
      kept.samples.insert(kept.samples.end(), values + prompt, values + rows.numel());
    }
    f.step(0);
    return f.learner->parallel->moments().first.clone();
  };
  const at::Tensor computed = gradient(0, 0.0f);
  EXPECT_LE(test::relative_difference(gradient(0, 1.0f), computed), 1e-5);
  EXPECT_GE(test::relative_difference(gradient(0, 1.5f), computed), 1e-2) << "they are used";
  EXPECT_LE(test::relative_difference(gradient(-1, 1.5f), computed), 1e-6) << "those of another block are not";
}

// As if the prefixes of the first `samples` of a prompt alone had been scored.
void keep_first_prefixes(Pool& pool, std::int64_t samples) {
  PrefixRows& prefixes = pool.block.prefixes;
  const PrefixRows all = prefixes;
  const auto cuts = static_cast<std::ptrdiff_t>(all.num_cuts(pool.header.max_new_tokens));
  prefixes = {.every = all.every, .samples = samples};
  for (std::int64_t row = 0; row < pool.block.num_prompts(); ++row)
    for (const auto& [to, from] :
         {std::pair(&prefixes.reward, &all.reward), std::pair(&prefixes.logp_reference, &all.logp_reference)})
      to->insert(to->end(), from->begin() + row * all.samples * cuts,
                 from->begin() + (row * all.samples + samples) * cuts);
}

// The parts that cuts make of a response, each with its own residual, less the mean at its place among the prompt's
// samples.
TEST(RegressionStep, prefix_credit_weighs_parts_of_a_response_apart) {
  for (const double limit : {0.0, 1.0}) {
    Fixture f(limit, true);
    f.settings.regression.credit = Credit::prefix;
    const RegressionTargets targets(f.pool, *f.table, f.settings.vbon, Credit::prefix);
    at::Tensor loss;
    for (std::size_t row = 0; row < kPool / kM; ++row) {
      std::map<std::size_t, std::vector<at::Tensor>> at_place;
      for (std::size_t i = row * kM; i < row * kM + kM; ++i) {
        const auto t = test::tokens_by_definition(f.learner->policy.model, f.reference, f.sequence(i), 0.8);
        std::int64_t from = 0;
        std::size_t place = 0;
        for (const TargetSegment& s : targets.of(static_cast<std::int64_t>(i))) {
          const at::Tensor ratio = (t.logp - t.logp_ref).narrow(0, from, s.end - from).sum();
          at_place[place++].push_back(ratio - s.log_ratio);
          from = s.end;
        }
        EXPECT_EQ(from, static_cast<std::int64_t>(f.sequence(i).response.size()));
      }
      EXPECT_GE(at_place.size(), 2u);
      for (const auto& [place, residuals] : at_place) {
        at::Tensor mean = residuals[0];
        for (std::size_t k = 1; k < residuals.size(); ++k) mean = mean + residuals[k];
        mean = mean / static_cast<double>(residuals.size());
        for (const at::Tensor& r : residuals) {
          const at::Tensor term = clipped_square(r - mean, limit) / kPool;
          loss = loss.defined() ? loss + term : term;
        }
      }
    }
    const at::Tensor want = f.gradient_of(loss);
    const Metrics m = f.step(0);
    EXPECT_LE(test::relative_difference(f.learner->parallel->moments().first, want), 1e-5) << "limit " << limit;
    if (limit == 0) {
      EXPECT_NEAR(m.at("loss"), loss.item<double>(), 3e-5 * loss.item<double>());
    }
  }
}

TEST(RegressionTargets, of_prefixes_divide_log_w_and_the_reference) {
  Fixture f(0, true);
  const RegressionTargets whole(f.pool, *f.table, f.settings.vbon, Credit::response),
      parts(f.pool, *f.table, f.settings.vbon, Credit::prefix);
  std::size_t most = 0;
  double mean = 0;
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(kPool); ++i) mean += whole.of(i)[0].log_ratio / kPool;
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(kPool); ++i) {
    ASSERT_EQ(whole.of(i).size(), 1u);
    const std::span<const TargetSegment> segments = parts.of(i);
    most = std::max(most, segments.size());
    double log_w = 0, logp = 0;
    for (const TargetSegment& s : segments) log_w += s.log_ratio, logp += s.logp_reference;
    EXPECT_NEAR(log_w, whole.of(i)[0].log_ratio - mean, 1e-12);
    EXPECT_NEAR(logp, whole.of(i)[0].logp_reference, 1e-5);
    for (std::size_t k = 0; k + 1 < segments.size(); ++k)
      EXPECT_EQ(segments[k].end, 2 * (static_cast<std::int32_t>(k) + 1));
    EXPECT_EQ(segments.back().end, f.pool.block.samples.length[static_cast<std::size_t>(i)]);
  }
  EXPECT_EQ(most, 3u);
  f.pool.block.prefixes = {};
  EXPECT_THROW(RegressionTargets(f.pool, *f.table, {.n = 4}, Credit::prefix), UserError);
}

TEST(RegressionStep, samples_without_scored_prefixes_are_left_out_of_credit_by_prefixes) {
  Fixture f(0, true, /*batch=*/6, /*last=*/0, /*per_prompt=*/2);
  keep_first_prefixes(f.pool, 2);
  f.settings.regression.credit = Credit::prefix;
  const RegressionTargets targets(f.pool, *f.table, f.settings.vbon, Credit::prefix);
  for (std::int64_t row = 0; row < test::kToyPrompts; ++row)
    EXPECT_EQ(targets.of(row * kM + 2).size(), 1u) << "nothing divides the third sample";
  const std::unique_ptr<PoolLoss> loss = make_pool_loss(Method::regression, f.settings, f.pool, *f.table);
  EXPECT_EQ(loss->grouping().an_epoch, test::kToyPrompts);
  for (std::int64_t update = 0; update < 4; ++update) {
    std::set<std::int64_t> seen;
    for (const std::int64_t member : loss->members(update)) {
      EXPECT_LT(member % kM, 2);
      seen.insert(member);
    }
    EXPECT_EQ(seen.size(), 6u);
  }
  f.settings.regression.credit = Credit::response;
  EXPECT_EQ(make_pool_loss(Method::regression, f.settings, f.pool, *f.table)->grouping().an_epoch, test::kToyPrompts);
}

TEST(RegressionStep, an_epoch_visits_every_sample_once) {
  for (const bool center : {false, true}) {
    Fixture f(0.9, center, 3);  // three updates an epoch
    at::Tensor loss;
    for (std::size_t i = 0; i < kPool; ++i)
      loss = loss.defined() ? loss + clipped_square(f.deviation(i), 0.9) / 3 : clipped_square(f.deviation(i), 0.9) / 3;
    const at::Tensor want = f.gradient_of(loss);
    std::set<std::vector<double>> orders;
    for (std::int64_t epoch = 0; epoch < 4; ++epoch) {
      at::Tensor sum = at::zeros_like(want);
      std::vector<double> losses;
      for (std::int64_t u = 0; u < 3; ++u) {
        losses.push_back(f.step(epoch * 3 + u).at("loss"));
        sum += f.learner->parallel->moments().first;
      }
      orders.insert(losses);
      EXPECT_LE(test::relative_difference(sum, want), 1e-5) << "epoch " << epoch;
    }
    EXPECT_GE(orders.size(), 2u);  // not always in the same order
  }
}

TEST(RegressionStep, groups_of_a_prompt_are_dealt_anew_each_epoch) {
  Fixture f(0, true, 2, 0, 2);  // of each prompt two of its three samples an epoch
  std::set<double> losses;
  for (std::int64_t u = 0; u < 24; ++u) losses.insert(f.step(u).at("loss"));
  EXPECT_GE(losses.size(), 6u);  // three prompts have three pairs each
  EXPECT_LE(losses.size(), 9u);
}

TEST(RegressionStep, learns_log_w_and_takes_its_own_rate) {
  Fixture f(3, false);
  f.settings.regression.learning_rate = 5e-3;
  f.settings.regression.warmup = 3;
  f.settings.optimizer.beta1 = 0.9;
  f.learner = make_learner(f.reference, f.settings, *f.group);
  const double before = f.step(0).at("loss");
  EXPECT_NEAR(f.step(1).at("learning_rate"), 5e-3 * 2 / 4, 1e-12);
  for (std::int64_t u = 2; u < 40; ++u) f.step(u);
  const Metrics m = f.step(40);
  EXPECT_LT(m.at("loss"), 0.1 * before);
  EXPECT_EQ(m.at("learning_rate"), 5e-3);
}

}  // namespace
}  // namespace vbon
