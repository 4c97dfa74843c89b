// The online loop on the enumerable world, from the reference to where it ends.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "unit/train/truth_world.hpp"

namespace vbon::truth {

constexpr double kNear = 0.02;  // nats

// Settings found by hand, the best of several forms of the KL, batches and learning rates for a minute a case: what
// counts is that the loop's fixed point is Best-of-N, not how fast it gets there. A case may name a second rate for the
// machine on which the first ends just outside. Each of N = 2 and 4 has whitening, which would move the effective N if
// the KL were not whitened with the advantages.
struct Case {
  double n = 0;
  KlForm kl_form = KlForm::exact;
  bool whiten = true;
  std::int64_t steps = 0, samples = 0;
  int epochs = 1;
  std::vector<double> learning_rates = {6e-3};
};

inline Settings loop_settings(const Case& c, double learning_rate) {
  Settings s = settings_of(c.n, c.samples);
  s.sampling.slots = 2 * c.samples;
  s.train.steps = c.steps;
  s.ppo.baseline = Baseline::rloo;
  s.ppo.kl_form = c.kl_form;
  s.ppo.whiten_advantages = c.whiten;
  s.ppo.epochs = c.epochs;
  s.optimizer = {
      .learning_rate = learning_rate, .beta2 = 0.99, .weight_decay = 0, .schedule = Schedule::cosine, .warmup = 10};
  return s;
}

// The policy that the loop ends with, and its own figure of KL(pi || pi_bon) in the last step.
struct Trained {
  std::unique_ptr<LearnerState> learner;
  double monitor = 0;
};

inline Trained run_loop(const World& world, const Settings& settings, comm::Collectives& local) {
  Trained trained{.learner = make_learner(world.reference, settings, local)};
  Phases phases;
  const LearnerTools tools{.settings = settings, .phases = phases, .prompts = world.prompts, .ranks = world.ranks()};
  const std::vector<std::int64_t> rows = {0, 1};
  const std::int64_t steps = settings.train.steps, per_step = updates_per_step(settings);
  for (std::int64_t step = 0; step < steps; ++step) {
    RolloutBatch batch = rollout_batch(world, trained.learner->policy.model, settings, step);
    const Metrics metrics = online_step(*trained.learner, tools, batch, rows, step, step * per_step, steps * per_step);
    EXPECT_LT(metrics.at("ratio_error"), 1e-4);
    if (metrics.contains("kl_to_bon")) trained.monitor = metrics.at("kl_to_bon");
  }
  return trained;
}

}  // namespace vbon::truth
