#include "vbon/objective/vbon.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "unit/objective/golden.hpp"
#include "vbon/objective/bon.hpp"
#include "vbon/objective/enumerated.hpp"
#include "vbon/objective/tilt.hpp"

namespace vbon {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Toy {
  std::vector<double> pi_ref, rewards, log_pi;
  std::vector<Quantiles> quantiles;
};

std::vector<double> random_distribution(test::Cases& cases, int strings) {
  std::vector<double> p;
  double sum = 0;
  for (int i = 0; i < strings; ++i) sum += p.emplace_back(std::exp(2 * cases.normal()));
  for (double& x : p) x /= sum;
  return p;
}

Toy random_toy(test::Cases& cases, bool with_ties, Ties ties) {
  const int strings = 2 + cases.below(12);
  Toy toy{.pi_ref = random_distribution(cases, strings)};
  for (int i = 0; i < strings; ++i) toy.rewards.push_back(with_ties ? cases.below(4) : cases.normal());
  for (const double p : random_distribution(cases, strings)) toy.log_pi.push_back(std::log(p));
  toy.quantiles = enumerated_quantiles(toy.pi_ref, toy.rewards, ties);
  return toy;
}

TEST(Enumerated, bon_sums_to_one_and_is_the_distribution_of_the_best) {
  test::Cases cases;
  for (int i = 0; i < 3000; ++i) {
    const Ties ties = i % 2 == 0 ? Ties::uniform : Ties::total_order;
    const Toy toy = random_toy(cases, i % 3 != 0, ties);
    const double n = i % 5 == 0 ? 2.0 : 1 + std::exp(cases.uniform(-4, 6));
    const auto log_bon = enumerated_log_bon(toy.pi_ref, toy.quantiles, n);
    double sum = 0;
    for (const double l : log_bon) sum += std::exp(l);
    EXPECT_NEAR(sum, 1, 1e-12 * n + 1e-12);
    if (n != 2.0) continue;
    // N = 2 by listing all pairs.
    for (std::size_t y = 0; y < toy.pi_ref.size(); ++y) {
      double best = 0;
      for (std::size_t a = 0; a < toy.pi_ref.size(); ++a)
        for (std::size_t b = 0; b < toy.pi_ref.size(); ++b) {
          const double pair = toy.pi_ref[a] * toy.pi_ref[b];
          double chosen_a = toy.rewards[a] > toy.rewards[b] ? 1 : 0;
          if (toy.rewards[a] == toy.rewards[b]) chosen_a = ties == Ties::uniform ? 0.5 : (a >= b ? 1 : 0);
          best += pair * (chosen_a * (a == y) + (1 - chosen_a) * (b == y));
        }
      EXPECT_NEAR(std::exp(log_bon[y]), best, 1e-13);
    }
  }
}

TEST(Enumerated, total_order_equals_proposition_1) {
  test::Cases cases;
  for (int i = 0; i < 1000; ++i) {
    const Toy toy = random_toy(cases, true, Ties::total_order);
    const double n = cases.uniform(1, 30);
    const auto log_bon = enumerated_log_bon(toy.pi_ref, toy.quantiles, n);
    for (std::size_t y = 0; y < toy.pi_ref.size(); ++y) {
      const double p = toy.quantiles[y].f - toy.quantiles[y].f_strict;  // pi_ref up to the rounding of running sums
      if (p < 1e-6) continue;
      EXPECT_NEAR(log_bon[y], log_pi_bon(std::log(toy.pi_ref[y]), std::log(toy.quantiles[y].f_strict), n), 1e-8 * n);
    }
  }
}

TEST(Objectives, are_ordered_on_thousands_of_toys) {
  test::Cases cases;
  for (int i = 0; i < 12000; ++i) {
    Toy toy = random_toy(cases, i % 2 == 0, i % 4 < 2 ? Ties::uniform : Ties::total_order);
    // L and L1 are -inf on a policy with mass at F_strict = 0: half of the cases have none there.
    if (i % 3 != 0) {
      double left = 0;
      for (std::size_t y = 0; y < toy.log_pi.size(); ++y) {
        if (toy.quantiles[y].f_strict == 0) toy.log_pi[y] = -std::numeric_limits<double>::infinity();
        left += std::exp(toy.log_pi[y]);
      }
      if (left == 0) continue;
      for (double& l : toy.log_pi) l -= std::log(left);
    }
    const double n = 1 + cases.below(20);
    const auto value = [&](Objective o) { return enumerated_objective(o, n, toy.log_pi, toy.pi_ref, toy.quantiles); };
    const double j = value(Objective::exact), l = value(Objective::L), l1 = value(Objective::L1);
    const double slack = 1e-11 * n * n;
    EXPECT_LE(j, slack);
    EXPECT_GE(j, l + std::log(n) - slack) << "N=" << n;
    EXPECT_GE(l, l1 - slack * (1 + std::abs(l1))) << "N=" << n;
    const auto log_bon = enumerated_log_bon(toy.pi_ref, toy.quantiles, n);
    EXPECT_NEAR(j, -enumerated_kl(toy.log_pi, log_bon), 1e-10 * (1 + std::abs(j)));
    EXPECT_NEAR(enumerated_objective(Objective::exact, n, log_bon, toy.pi_ref, toy.quantiles), 0, 1e-11 * n);
  }
}

TEST(Objectives, constants_are_those_of_the_paper) {
  const ObjectiveNats l1 = objective_nats(Objective::L1, 5, 0, -1);
  EXPECT_DOUBLE_EQ(l1.reward, -10);  // N(N-1)/2 log F
  EXPECT_DOUBLE_EQ(l1.kl, 15);       // N(N+1)/2
  EXPECT_DOUBLE_EQ(l1.entropy, 14);  // (N+2)(N-1)/2
  const ObjectiveNats l = objective_nats(Objective::L, 5, 0, -1);
  EXPECT_DOUBLE_EQ(l.reward, -4);
  EXPECT_DOUBLE_EQ(l.kl, 1);
  EXPECT_DOUBLE_EQ(l.entropy, 0);
  const LogF sample{.log_f = std::log(0.5), .exact = {.f_strict = 0.4, .f = 0.6}};
  const ObjectiveNats exact = objective_nats({.n = 2}, sample);
  EXPECT_NEAR(exact.reward, std::log(1.0), 1e-15);  // (0.36 - 0.16) / 0.2
  EXPECT_DOUBLE_EQ(exact.kl, 1);
}

TEST(Objectives, are_scaled_once_and_vanish_at_n_1) {
  const LogF sample{.log_f = -0.7, .exact = {.f_strict = 0.45, .f = 0.55}};
  for (const Objective o : {Objective::exact, Objective::L, Objective::L1}) {
    const ObjectiveNats one = scaled_objective({.n = 1.0, .objective = o, .scale = 3.0}, sample);
    EXPECT_EQ(one.reward, 0);
    EXPECT_EQ(one.kl, 0);
    EXPECT_EQ(one.entropy, 0);
    const ObjectiveNats nats = objective_nats({.n = 4, .objective = o}, sample);
    const ObjectiveNats by_default = scaled_objective({.n = 4.0, .objective = o}, sample);
    EXPECT_DOUBLE_EQ(by_default.reward, nats.reward / 3);
    EXPECT_DOUBLE_EQ(by_default.kl, nats.kl / 3);
    EXPECT_DOUBLE_EQ(by_default.entropy, nats.entropy / 3);
    EXPECT_DOUBLE_EQ(scaled_objective({.n = 4.0, .objective = o, .scale = 2.0}, sample).reward, 2 * nats.reward);
  }
  // L by its default scale is log F with KL weight beta.
  const ObjectiveNats l = scaled_objective({.beta = 0.05, .objective = Objective::L}, sample);
  EXPECT_NEAR(l.reward, sample.log_f, 1e-15);
  EXPECT_NEAR(l.kl, 0.05, 1e-15);
}

TEST(KlToBon, is_exact_by_weights_and_near_by_log_f) {
  test::Cases cases;
  for (int i = 0; i < 500; ++i) {
    const Toy toy = random_toy(cases, true, Ties::uniform);
    const double n = cases.uniform(1.1, 20);
    double kl = 0, mean_log_w = 0;
    for (std::size_t y = 0; y < toy.log_pi.size(); ++y) {
      const double p = std::exp(toy.log_pi[y]);
      kl += p * (toy.log_pi[y] - std::log(toy.pi_ref[y]));
      mean_log_w += p * log_bon_weight(toy.quantiles[y].f_strict, toy.quantiles[y].f, n);
    }
    EXPECT_NEAR(kl_to_bon(kl, mean_log_w), enumerated_kl(toy.log_pi, enumerated_log_bon(toy.pi_ref, toy.quantiles, n)),
                1e-11 * n);
  }
  // At the reference E[log F] = -1, and the distance is N - 1 - log N.
  EXPECT_NEAR(kl_to_bon_untied(0, -1, 7), bon_reverse_kl(7), 1e-14);
  EXPECT_NEAR(kl_to_bon_untied(bon_kl(7), bon_mean_log_f(7), 7), 0, 1e-14);
}

TEST(KlToBon, from_pool_quantiles_converges_to_the_truth) {
  // Samples of a policy scored against a pool: E[log w] by `exact` tends to the enumerated one as M grows.
  test::Cases cases;
  Toy toy = random_toy(cases, true, Ties::uniform);
  const double n = 4;
  double truth = 0;
  for (std::size_t y = 0; y < toy.log_pi.size(); ++y)
    truth += std::exp(toy.log_pi[y]) * log_bon_weight(toy.quantiles[y].f_strict, toy.quantiles[y].f, n);
  std::discrete_distribution<std::size_t> draw(toy.pi_ref.begin(), toy.pi_ref.end());
  std::vector<double> errors;
  for (const int m : {30, 3000, 300000}) {
    std::vector<float> pool;
    for (int k = 0; k < m; ++k) pool.push_back(static_cast<float>(toy.rewards[draw(cases.engine)]));
    std::sort(pool.begin(), pool.end());
    const LogFTable table(pool, 1, Estimator::add_one);
    double mean = 0;
    for (std::size_t y = 0; y < toy.log_pi.size(); ++y)
      mean += std::exp(toy.log_pi[y]) * log_weight({.n = n}, table.of(0, static_cast<float>(toy.rewards[y])));
    errors.push_back(std::abs(mean - truth));
  }
  EXPECT_LT(errors.back(), 0.02);  // (N-1) sd(F) / (F sqrt M) ~ 0.01 at the smallest F here
  EXPECT_LT(errors.back(), errors.front());
}

TEST(EffectiveN, of_a_bon_distribution_is_its_n) {
  test::Cases cases;
  for (int i = 0; i < 300; ++i) {
    const Toy toy = random_toy(cases, i % 2 == 0, Ties::uniform);
    const double n = 1 + std::exp(cases.uniform(-2, 4));
    if (toy.quantiles.size() < 3) continue;
    double largest = 0, smallest = 1;  // a world whose strings all tie has no N
    for (const auto& q : toy.quantiles) largest = std::max(largest, q.f_strict), smallest = std::min(smallest, q.f);
    if (largest < 0.05 || smallest > 0.95) continue;
    const double found = effective_n(enumerated_log_bon(toy.pi_ref, toy.quantiles, n), toy.quantiles);
    // The minimum of a KL is flat: its place is known to about sqrt(eps), over the information that this world has on
    // N.
    EXPECT_NEAR(found / n, 1, 1e-3) << "N=" << n;
  }
}

TEST(EffectiveN, of_the_reference_is_one_and_is_the_minimum_of_the_kl) {
  test::Cases cases;
  for (int i = 0; i < 200; ++i) {
    const Toy toy = random_toy(cases, true, Ties::uniform);
    std::vector<double> log_ref;
    for (const double p : toy.pi_ref) log_ref.push_back(std::log(p));
    EXPECT_NEAR(effective_n(log_ref, toy.quantiles), 1, 1e-6);
    const double n = effective_n(toy.log_pi, toy.quantiles, 1000);
    const auto kl = [&](double m) {
      return enumerated_kl(toy.log_pi, enumerated_log_bon(toy.pi_ref, toy.quantiles, std::clamp(m, 1.0, 1000.0)));
    };
    EXPECT_LE(kl(n), kl(n * 1.01) + 1e-10);
    EXPECT_LE(kl(n), kl(n / 1.01) + 1e-10);
  }
}

TEST(VbonConfig, good_sections_pass) {
  EXPECT_THAT(problems(VbonConfig{.n = 4}), IsEmpty());
  EXPECT_THAT(problems(VbonConfig{.n = 1}), IsEmpty());
  EXPECT_THAT(problems(VbonConfig{.n = 2.5}), IsEmpty());
  EXPECT_THAT(problems(VbonConfig{.beta = 0.3, .objective = Objective::L, .estimator = Estimator::harmonic}),
              IsEmpty());
  for (const double whole : {2., 3., 4., 7., 11., 21., 51., 101., 1001.})  // beta written as a decimal fraction
    EXPECT_THAT(problems(VbonConfig{.beta = 1 / (whole - 1), .objective = Objective::L1}), IsEmpty()) << whole;
  EXPECT_DOUBLE_EQ(target_n({.beta = 0.05}), 21);
  EXPECT_NEAR(target_n({.beta = 0.3}), 4.3333333333333333, 1e-15);
}

TEST(VbonConfig, each_fault_is_named_and_all_are_listed) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  EXPECT_THAT(problems(VbonConfig{}), ElementsAre(HasSubstr("vbon.N is missing")));
  EXPECT_THAT(problems(VbonConfig{.n = 0.5}), ElementsAre(HasSubstr("vbon.N is 0.5")));
  EXPECT_THAT(problems(VbonConfig{.n = nan}), ElementsAre(HasSubstr("vbon.N")));
  EXPECT_THAT(problems(VbonConfig{.n = inf, .objective = Objective::L1}), ElementsAre(HasSubstr("vbon.N")));
  EXPECT_THAT(problems(VbonConfig{.beta = 0}), ElementsAre(HasSubstr("vbon.beta is 0")));
  EXPECT_THAT(problems(VbonConfig{.beta = -1}), ElementsAre(HasSubstr("vbon.beta is -1")));
  EXPECT_THAT(problems(VbonConfig{.beta = 1e-320}), ElementsAre(HasSubstr("vbon.beta")));
  EXPECT_THAT(problems(VbonConfig{.n = 4, .beta = 0.5}), ElementsAre(HasSubstr("both")));
  EXPECT_THAT(problems(VbonConfig{.n = 2.5, .objective = Objective::L1}), ElementsAre(HasSubstr("integer")));
  EXPECT_THAT(problems(VbonConfig{.n = 4, .scale = 0}), ElementsAre(HasSubstr("vbon.scale")));
  EXPECT_EQ(problems(VbonConfig{.n = 0, .beta = -1, .scale = nan}).size(), 4u);
}

TEST(VbonConfig, other_targets_and_schedules_are_of_the_exact_objective) {
  EXPECT_THAT(problems(VbonConfig{.target = Target::poisson, .n = 2.5}), IsEmpty());
  EXPECT_THAT(problems(VbonConfig{.target = Target::exp_tilt, .n = 4, .objective = Objective::L}),
              ElementsAre(HasSubstr("vbon.objective must be exact")));
  EXPECT_THAT(problems(VbonConfig{.n = 4, .n_start = 2, .n_steps = 10}), IsEmpty());
  EXPECT_THAT(problems(VbonConfig{.n = 4, .n_start = 2}), ElementsAre(HasSubstr("belong together")));
  EXPECT_THAT(problems(VbonConfig{.n = 4, .n_steps = 10}), ElementsAre(HasSubstr("belong together")));
  EXPECT_THAT(problems(VbonConfig{.n = 4, .n_start = 0.5, .n_steps = 3}),
              ElementsAre(HasSubstr("vbon.N_start is 0.5")));
  EXPECT_THAT(problems(VbonConfig{.n = 4, .n_start = 2, .n_steps = 3, .objective = Objective::L1}),
              ElementsAre(HasSubstr("vbon.N_steps")));
}

TEST(VbonConfig, the_schedule_grows_by_equal_factors_and_stays) {
  const VbonConfig config{.beta = 1.0 / 15, .n_start = 1, .n_steps = 4};  // N = 16
  for (const auto& [step, n] :
       std::vector<std::pair<std::int64_t, double>>{{0, 1}, {1, 2}, {2, 4}, {3, 8}, {4, 16}, {9, 16}})
    EXPECT_NEAR(target_n(at_step(config, step)), n, 1e-12) << step;
  EXPECT_EQ(target_n(at_step({.n = 4}, 0)), 4);
}

TEST(Objectives, of_a_tilt_are_its_log_weight_and_the_kl) {
  const LogF sample{.log_f = -0.7, .exact = {.f_strict = 0.45, .f = 0.55}};
  for (const Target target : {Target::exp_tilt, Target::poisson}) {
    const ObjectiveNats nats = objective_nats({.target = target, .n = 5}, sample);
    EXPECT_EQ(nats.reward, log_tilt_weight(target, 0.45, 0.55, 5));
    EXPECT_EQ(nats.kl, 1);
    EXPECT_EQ(nats.entropy, 0);
  }
  // Scaled by beta, the reward of the exponential tilt is F itself and beta its KL weight.
  const ObjectiveNats a =
      scaled_objective({.target = Target::exp_tilt, .beta = 0.2}, {.exact = {.f_strict = 0.3, .f = 0.3}});
  const ObjectiveNats b =
      scaled_objective({.target = Target::exp_tilt, .beta = 0.2}, {.exact = {.f_strict = 0.7, .f = 0.7}});
  EXPECT_NEAR(b.reward - a.reward, 0.4, 1e-12);
  EXPECT_NEAR(a.kl, 0.2, 1e-15);
}

TEST(VbonConfig, warns_of_pools_smaller_than_2n) {
  EXPECT_THAT(warnings({.n = 16}, 32), IsEmpty());
  EXPECT_THAT(warnings({.n = 16}, 31), ElementsAre(HasSubstr("at least 32")));
}

struct Names {
  std::vector<std::string> names;
  template <class T>
  void operator()(T&, const FieldInfo& info) {
    names.emplace_back(info.name);
    EXPECT_FALSE(info.help.empty());
  }
};

TEST(VbonConfig, keys_are_those_of_the_contract) {
  Names names;
  VbonConfig config;
  VbonConfig::visit(names, config);
  EXPECT_THAT(names.names,
              ElementsAre("target", "N", "beta", "N_start", "N_steps", "objective", "estimator", "ties", "scale"));
  EXPECT_EQ(enum_value<Objective>("L1"), Objective::L1);
  EXPECT_EQ(enum_value<Estimator>("exponential"), Estimator::exponential);
  EXPECT_EQ(enum_name(Ties::total_order), "total_order");
}

}  // namespace
}  // namespace vbon
