// The truth test: a language model small enough to list every string, built from the same modules. The online loop on
// the exact objective with enumerated F must end at the Best-of-N distribution, and nowhere else.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "unit/train/truth_world.hpp"
#include "vbon/objective/bon.hpp"

namespace vbon::truth {
namespace {

// Settings found by hand, the best of several learning rates, forms of the KL and batches for a minute a case: what
// counts is that the loop's fixed point is Best-of-N, not how fast it gets there. Each of N = 2 and 4 has whitening,
// which would move the effective N if the KL were not whitened with the advantages.
struct Case {
  double n = 0;
  KlForm kl_form = KlForm::exact;
  bool whiten = true;
  std::int64_t steps = 0, samples = 0;
  int epochs = 1;
  double learning_rate = 6e-3;
};

Settings loop_settings(const Case& c) {
  Settings s = settings_of(c.n, c.samples);
  s.sampling.slots = 2 * c.samples;
  s.train.steps = c.steps;
  s.ppo.baseline = Baseline::rloo;
  s.ppo.kl_form = c.kl_form;
  s.ppo.whiten_advantages = c.whiten;
  s.ppo.epochs = c.epochs;
  s.optimizer = {
      .learning_rate = c.learning_rate, .beta2 = 0.99, .weight_decay = 0, .schedule = Schedule::cosine, .warmup = 10};
  return s;
}

class Truth : public testing::TestWithParam<Case> {};

TEST_P(Truth, online_loop_on_the_exact_objective_reaches_best_of_n) {
  at::set_num_threads(1);  // tiny tensors
  const World world;
  const Case c = GetParam();
  const Settings settings = loop_settings(c);
  const double kl_before = world.kl_to_bon(world.reference, c.n);
  const auto learner = make_learner(world.reference, settings);
  comm::LocalCollectives local;
  Phases phases;
  const LearnerTools tools{
      .settings = settings, .learners = local, .phases = phases, .prompts = world.prompts, .ranks = world.ranks()};
  const std::vector<std::int64_t> rows = {0, 1};
  const std::int64_t per_step = updates_per_step(settings);
  double monitor = 0;
  for (std::int64_t step = 0; step < c.steps; ++step) {
    RolloutBatch batch = rollout_batch(world, learner->policy.model, settings, step);
    const Metrics metrics = online_step(*learner, tools, batch, rows, step, step * per_step, c.steps * per_step);
    ASSERT_LT(metrics.at("ratio_error"), 1e-4);
    monitor = metrics.at("kl_to_bon");
  }
  const double kl_after = world.kl_to_bon(learner->policy.model, c.n),
               effective = world.mean_effective_n(learner->policy.model);
  std::printf("N=%g: KL(pi || pi_bon) %.4f -> %.5f nats, monitor %.4f, effective N %.3f\n", c.n, kl_before, kl_after,
              monitor, effective);
  EXPECT_NEAR(kl_before, bon_reverse_kl(c.n), 0.15 * bon_reverse_kl(c.n));  // its value for continuous rewards
  EXPECT_LE(kl_after, 0.02);
  EXPECT_NEAR(effective, c.n, 0.05 * c.n);
}

constexpr auto kExact = KlForm::exact, kPenalty = KlForm::penalty;
INSTANTIATE_TEST_SUITE_P(BestOf, Truth,
                         testing::Values(Case{2, kExact, true, 300, 128}, Case{4, kExact, true, 500, 256},
                                         Case{4, kPenalty, true, 400, 128},
                                         Case{16, kPenalty, false, 800, 256, 2, 5e-3}),
                         [](const auto& test_info) {
                           const Case& c = test_info.param;
                           return fmt::format("N{}_{}", c.n, enum_name(c.kl_form));
                         });

}  // namespace
}  // namespace vbon::truth
