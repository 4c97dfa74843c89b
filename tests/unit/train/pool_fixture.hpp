// A small pool on the toy world: three samples of each of three prompts, ties among their rewards, a policy that has
// moved away from its reference; one update of an offline method on it, and gradients by autograd to compare with.
#pragma once

#include <ATen/Parallel.h>

#include <cmath>
#include <memory>
#include <vector>

#include "support/world.hpp"
#include "unit/train/toy_world.hpp"
#include "vbon/train/pool_losses.hpp"

namespace vbon::test {

constexpr std::int64_t kM = 3, kPool = 9;
const std::vector<float> kRewards = {0.5f, 0.5f, -1.0f, 2.0f, 3.0f, 1.0f, -4.0f, -4.0f, -4.0f};

class PoolFixture {
 public:
  explicit PoolFixture(double clip = 0, bool center = true, std::int64_t batch = 9, std::int64_t last = 0,
                       std::int64_t per_prompt = kM)
      : reference(toy_lm({}, 31)) {
    at::set_num_threads(1);
    settings.run.seed = 12;
    settings.sampling = {.temperature = 0.8, .max_new_tokens = kToyTokens};
    settings.train = {.method = Method::regression, .layers = {last}, .micro_batch = 2};
    settings.vbon.n = 4.0;
    settings.regression = {.batch = batch, .samples_per_prompt = per_prompt, .center = center, .clip_residual = clip};
    settings.optimizer = {
        .learning_rate = 1e-12, .beta1 = 0, .weight_decay = 0, .schedule = Schedule::constant, .clip_norm = 0};
    learner = make_learner(reference, settings, *group);
    disturb_all(trained_parameters(learner->policy), 0.03, 70);

    pool.block.prompts = toy_prompts();
    const RolloutBatch drawn = toy_rollouts(pool.block.prompts);
    pool.header.max_new_tokens = kToyTokens;
    pool.header.num_samples = pool.block.samples.num_samples = kM;
    pool.block.samples.max_new_tokens = kToyTokens;
    pool.block.samples.tokens = drawn.tokens;
    pool.block.samples.length = drawn.length;
    pool.block.samples.finished = drawn.finished;
    pool.block.rewards["main"] = kRewards;
    pool.sorted_rewards = sorted_rows(pool.block.rewards, kM);
    for (std::size_t i = 0; i < kPool; ++i)
      pool.block.samples.logp_reference.push_back(
          static_cast<float>(tokens_by_definition(reference, reference, sequence(i), 0.8).logp.sum().item<double>()));
    cut_every_two_tokens();
    table = std::make_unique<LogFTable>(pool.sorted_rewards.at("main"), 3, Estimator::add_one);
  }
  void cut_every_two_tokens() {  // at 2 and 4 of 6 tokens
    PrefixRows& prefixes = pool.block.prefixes;
    prefixes.every = 2;
    prefixes.samples = pool.header.num_samples;
    for (std::size_t i = 0; i < kPool; ++i)
      for (std::int64_t cut = 2; cut <= 4; cut += 2) {
        const bool inside = cut < static_cast<std::int64_t>(sequence(i).response.size());
        const at::Tensor logp = tokens_by_definition(reference, reference, sequence(i), 0.8).logp;
        prefixes.logp_reference.push_back(inside ? logp.narrow(0, 0, cut).sum().item<float>() : std::nanf(""));
        prefixes.reward.push_back(inside ? kRewards[(i + static_cast<std::size_t>(cut)) % kPool] + 0.25f
                                         : std::nanf(""));
      }
  }
  Metrics step(std::int64_t update) {
    Phases phases;
    const LearnerTools tools{.settings = settings, .phases = phases, .prompts = pool.block.prompts, .ranks = {}};
    const Method method = settings.train.method;
    const std::unique_ptr<PoolLoss> loss = make_pool_loss(method, settings, pool, *table);
    return pool_step(*learner, tools, pool, *loss, pool_optimizer(method, settings), update, 20);
  }
  at::Tensor logp(std::size_t i) const {  // of a whole response, double, differentiable
    return tokens_by_definition(learner->policy.model, reference, sequence(i), 0.8).logp.sum();
  }
  double logp_reference(std::size_t i) const { return pool.block.samples.logp_reference[i]; }
  Sequence sequence(std::size_t i) const {
    return {pool.block.prompts.tokens_of(static_cast<std::int64_t>(i) / kM),
            pool.block.samples.tokens_of(static_cast<std::int64_t>(i) / kM, static_cast<std::int64_t>(i) % kM)};
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
    const auto t = tokens_by_definition(learner->policy.model, reference, sequence(i), 0.8);
    return t.logp.sum() - t.logp_ref.sum() - log_w;
  }
  // The residual that is squared.
  at::Tensor deviation(std::size_t i) const {
    if (!settings.regression.center) return residual(i);
    const std::size_t first = i / kM * kM;
    return residual(i) - (residual(first) + residual(first + 1) + residual(first + 2)) / 3;
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
  std::unique_ptr<comm::Collectives> group = comm::make_collectives(world().dup("test"), comm::Backend::host);
};

}  // namespace vbon::test
