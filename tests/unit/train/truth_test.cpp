// The truth test: a language model small enough to list every string, built from the same modules. The online loop on
// the exact objective with enumerated F must end at the Best-of-N distribution, and nowhere else.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "unit/train/truth_loop.hpp"
#include "vbon/objective/bon.hpp"
#include "vbon/objective/vbon.hpp"

namespace vbon::truth {
namespace {

// KL(pi || pi_bon) and effective N.
struct Outcome {
  double kl_to_bon = 0, effective_n = 0;
};

Outcome train(const World& world, const Settings& settings, double n) {
  comm::LocalCollectives local;
  const Trained trained = run_loop(world, settings, local);
  const CausalLm& policy = trained.learner->policy.model;
  const Outcome end{.kl_to_bon = world.kl_to_bon(policy, n), .effective_n = world.mean_effective_n(policy)};
  std::printf("N=%g, rate %g: KL(pi || pi_bon) %.4f -> %.5f nats, monitor %.4f, effective N %.3f\n", n,
              settings.optimizer.learning_rate, world.kl_to_bon(world.reference, n), end.kl_to_bon, trained.monitor,
              end.effective_n);
  return end;
}

class Truth : public testing::TestWithParam<Case> {};

TEST_P(Truth, online_loop_on_the_exact_objective_reaches_best_of_n) {
  at::set_num_threads(1);  // tiny tensors
  const World world;
  const Case c = GetParam();
  // At the start, its value for continuous rewards:
  EXPECT_NEAR(world.kl_to_bon(world.reference, c.n), bon_reverse_kl(c.n), 0.15 * bon_reverse_kl(c.n));

  Outcome best{.kl_to_bon = std::numeric_limits<double>::infinity()};
  for (const double learning_rate : c.learning_rates) {
    const Outcome end = train(world, loop_settings(c, learning_rate), c.n);
    if (end.kl_to_bon < best.kl_to_bon) best = end;
    if (best.kl_to_bon <= kNear) break;
  }
  EXPECT_LE(best.kl_to_bon, kNear);
  EXPECT_NEAR(best.effective_n, c.n, 0.05 * c.n);
}

constexpr auto kExact = KlForm::exact, kPenalty = KlForm::penalty;
INSTANTIATE_TEST_SUITE_P(BestOf, Truth,
                         testing::Values(Case{2, kExact, true, 300, 128}, Case{4, kExact, true, 400, 256},
                                         Case{4, kPenalty, true, 400, 128},
                                         Case{16, kPenalty, false, 800, 256, 2, {5e-3, 6e-3}}),
                         [](const auto& test_info) {
                           const Case& c = test_info.param;
                           return fmt::format("N{}_{}", c.n, enum_name(c.kl_form));
                         });

}  // namespace
}  // namespace vbon::truth
