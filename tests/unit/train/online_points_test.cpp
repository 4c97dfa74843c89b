// Other objectives of the online loop than those of truth_test.cpp, each at the optimum that theory gives it.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cstdio>

#include "unit/train/truth_loop.hpp"

namespace vbon::truth {
namespace {

struct OnlinePoint {
  const char* name = nullptr;
  Method method = Method::vbon;
  Objective objective = Objective::exact;
  Target target = Target::bon;
  double n = 4;     // of vbon
  double beta = 0;  // of ppo
};

class OnlineFixedPoints : public testing::TestWithParam<OnlinePoint> {};

TEST_P(OnlineFixedPoints, of_the_loop) {
  at::set_num_threads(1);  // tiny tensors
  const World world;
  const OnlinePoint c = GetParam();
  Settings s = loop_settings({.n = c.n, .steps = 400, .samples = 128}, 6e-3);
  s.train.method = c.method;
  s.vbon.objective = c.objective;
  s.vbon.target = c.target;
  s.ppo.kl_coef = c.beta;
  comm::LocalCollectives local;
  const Trained trained = run_loop(world, s, local);
  const Value value = [&](std::size_t p, std::size_t string) {
    if (c.method == Method::ppo) return static_cast<double>(world.rewards[p][string]) / c.beta;
    return log_weight({.target = c.target, .n = c.n}, world.log_f(world.quantiles[p][string]));
  };
  const double before = distance(world, world.reference, value),
               after = distance(world, trained.learner->policy.model, value);
  std::printf("%s: KL to its target %.4f -> %.5f nats\n", c.name, before, after);
  EXPECT_GT(before, 4 * kNear);
  EXPECT_LE(after, kNear);
}

INSTANTIATE_TEST_SUITE_P(Loop, OnlineFixedPoints,
                         testing::Values(OnlinePoint{"vbon_L", Method::vbon, Objective::L, Target::bon, 2},
                                         OnlinePoint{"exp_tilt", Method::vbon, Objective::exact, Target::exp_tilt},
                                         OnlinePoint{"poisson", Method::vbon, Objective::exact, Target::poisson},
                                         OnlinePoint{"kl_ppo", Method::ppo, Objective::exact, Target::bon, 4, 1.0}),
                         [](const auto& test_info) { return test_info.param.name; });

}  // namespace
}  // namespace vbon::truth
