// Where each offline method ends on the enumerable model, from a pool of many samples, against theory: regression, InfoNCA
// and BoN-SFT at Best-of-N, DPO with labels from sigmoid(r1 - r2) at the exponential tilt of the reward, IPO at that of F.
// BoNBoN has an optimum of its own: its distance is printed, and that it moves towards Best-of-N is asked for.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "unit/train/truth_world.hpp"
#include "vbon/train/pool_losses.hpp"

namespace vbon::truth {
namespace {

constexpr std::int64_t kSamples = 4096;  // of each prompt's pool

Pool pool_of(const World& world) {
  Pool pool;
  pool.header.num_samples = pool.block.samples.num_samples = kSamples;
  pool.header.max_new_tokens = pool.block.samples.max_new_tokens = kLength;
  pool.block.prompts = world.prompts;
  std::vector<float> rewards;
  for (const Completion& c : world.draw(world.reference, kSamples, RandomStream(3, Purpose::pool))) {
    std::vector<std::int32_t> tokens(c.tokens.begin(), c.tokens.end());
    double logp = 0;
    for (const float l : c.logp) logp += l;
    pool.block.samples.length.push_back(static_cast<std::int32_t>(tokens.size()));
    pool.block.samples.finished.push_back(c.finished ? 1 : 0);
    pool.block.samples.logp_reference.push_back(static_cast<float>(logp));
    rewards.push_back(World::reward_of(c.prompt, tokens));
    tokens.resize(kLength, -1);
    pool.block.samples.tokens.insert(pool.block.samples.tokens.end(), tokens.begin(), tokens.end());
  }
  pool.block.rewards["main"] = rewards;
  pool.sorted_rewards = sorted_rows(pool.block.rewards, kSamples);
  return pool;
}

struct FixedPoint {
  const char* name = nullptr;
  Method method = Method::regression;
  double n = 4, beta = 0.3;
  double near = 0.02;  // nats; what a pool of 4096 leaves of it, and the optimiser
  std::int64_t batch = 512;
  Target target = Target::bon;
  std::int64_t updates = 250;
};

class FixedPoints : public testing::TestWithParam<FixedPoint> {};

TEST_P(FixedPoints, of_offline_methods) {
  at::set_num_threads(1);  // tiny tensors
  const World world;
  const FixedPoint c = GetParam();
  Settings s = settings_of(c.n, 2);
  s.train.method = c.method;
  s.train.micro_batch = 4096;
  s.vbon.target = c.target;
  s.regression = {.batch = c.batch, .samples_per_prompt = 32, .clip_residual = 0};
  s.infonca = {.batch = c.batch, .samples_per_prompt = 32};
  s.bon_sft.batch = s.preference.batch = s.bonbon.batch = c.batch;
  s.preference.beta = c.beta;
  s.preference.generations = 0;
  s.preference.pairs = 40000;
  s.preference.labels = c.method == Method::dpo ? Labels::soft : Labels::hard;
  s.bonbon.pairs = 0;
  s.optimizer = {.learning_rate = 6e-3, .beta2 = 0.99, .weight_decay = 0, .schedule = Schedule::cosine, .warmup = 10};
  const Pool pool = pool_of(world);
  const LogFTable table(pool.sorted_rewards.at("main"), kPrompts, Estimator::add_one);
  const auto loss = make_pool_loss(c.method, s, pool, table);
  comm::LocalCollectives local;
  const auto learner = make_learner(world.reference, s, local);
  Phases phases;
  const LearnerTools tools{.settings = s, .phases = phases, .prompts = world.prompts, .ranks = world.ranks()};
  for (std::int64_t u = 0; u < c.updates; ++u)
    pool_step(*learner, tools, pool, *loss, pool_optimizer(c.method, s), u, c.updates);

  const Value value = [&](std::size_t p, std::size_t string) {
    const Quantiles q = world.quantiles[p][string];
    if (c.method == Method::dpo) return static_cast<double>(world.rewards[p][string]) / c.beta;
    if (c.method == Method::ipo) return 0.5 * (q.f_strict + q.f) / c.beta;
    return log_weight({.target = c.target, .n = c.n}, world.log_f(q));
  };
  const double before = distance(world, world.reference, value), after = distance(world, learner->policy.model, value);
  std::printf("%s: KL to its target %.4f -> %.5f nats\n", c.name, before, after);
  if (c.method == Method::bonbon) EXPECT_LT(after, 0.5 * before);
  else EXPECT_LE(after, c.near);
}

INSTANTIATE_TEST_SUITE_P(
    Pool, FixedPoints,
    testing::Values(FixedPoint{"regression", Method::regression, 4},
                    FixedPoint{"regression_exp_tilt", Method::regression, 4, 0, 0.02, 512, Target::exp_tilt},
                    FixedPoint{"regression_poisson", Method::regression, 4, 0, 0.02, 512, Target::poisson},
                    FixedPoint{"infonca", Method::infonca, 4},
                    FixedPoint{"bon_sft", Method::bon_sft, 4, 0, 0.025, 1024}, FixedPoint{"dpo", Method::dpo, 1, 1.0},
                    FixedPoint{"ipo", Method::ipo, 1, 0.3}, FixedPoint{"bonbon", Method::bonbon, 4}),
    [](const auto& test_info) { return test_info.param.name; });

}  // namespace
}  // namespace vbon::truth
