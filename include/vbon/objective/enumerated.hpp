// Ground truth where every string can be listed: quantiles, the BoN distribution and the objectives as exact sums.
//
// Vectors run over all S strings of one prompt: pi_ref sums to 1 (strings of probability 0 are allowed), rewards are
// any finite numbers. This is what tests and small studies compare everything else with.
#pragma once

#include <span>
#include <vector>

#include "vbon/objective/log_f.hpp"
#include "vbon/objective/vbon_config.hpp"

namespace vbon {

// F_strict and F of every string. total_order: among equal rewards the earlier index comes first (list the strings in
// the order of appendix C), and F = F_strict + p.
std::vector<Quantiles> enumerated_quantiles(std::span<const double> pi_ref, std::span<const double> rewards, Ties ties);

// log pi_bon = log pi_ref + log w_N.
std::vector<double> enumerated_log_bon(std::span<const double> pi_ref, std::span<const Quantiles> quantiles, double n);

// KL(pi || q) from log-probabilities; strings with pi = 0 count 0.
double enumerated_kl(std::span<const double> log_pi, std::span<const double> log_q);

// J = -KL(pi || pi_bon), L or L1 of a policy, in nats, unscaled: J >= L + log N, L >= L1. -inf where the policy has
// mass at F_strict = 0 and the objective takes its logarithm.
double enumerated_objective(Objective objective, double n, std::span<const double> log_pi,
                            std::span<const double> pi_ref, std::span<const Quantiles> quantiles);

// The N >= 1 whose BoN distribution is nearest to the policy, argmin_N KL(pi || pi_bon(N)), at most max_n: what N a
// trained policy has in effect.
double effective_n(std::span<const double> log_pi, std::span<const Quantiles> quantiles, double max_n = 1e6);

}  // namespace vbon
