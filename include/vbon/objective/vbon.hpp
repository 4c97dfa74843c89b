// The vBoN objectives as what a policy-gradient loop maximises:
//
//   scale * ( E[reward_nats] - kl_nats * KL(pi || ref) - entropy_nats * H(pi) )
//
//   exact   E[log w_N] - KL                                        = -KL(pi || pi_bon), maximum 0
//   L       (N-1) E[log F_strict] - KL                             <= exact - log N
//   L1      N(N-1)/2 E[log F_strict] - N(N+1)/2 KL - (N+2)(N-1)/2 H   <= L (Theorem 3; integer N; H with this sign)
//
// All three are in nats and are multiplied once, by `vbon.scale`; its default 1/(N-1) gives exact and L the KL weight
// beta = 1/(N-1) against log F. Mixtures with other objectives are formed in nats, before the scale.
// N = 1: the best of one is the reference itself; every weight is 0 and nothing is updated.
#pragma once

#include "vbon/objective/log_f.hpp"
#include "vbon/objective/vbon_config.hpp"

namespace vbon {

struct ObjectiveNats {
  double reward = 0;   // of one sample
  double kl = 0;       // weight of KL(pi || ref), >= 0
  double entropy = 0;  // weight of H(pi), subtracted; only L1 has one
};

// By a valid config's target, objective and N. Targets other than Best-of-N (tilt.hpp) have `exact` only: E[log w] -
// KL.
ObjectiveNats objective_nats(const VbonConfig& config, const LogF& sample);
ObjectiveNats objective_nats(Objective objective, double n, double log_w, double log_f_strict);

// vbon.scale or 1/(N-1); 0 at N = 1.
double objective_scale(const VbonConfig& config);
// The objective of a sample as the loop uses it: objective_nats times objective_scale.
ObjectiveNats scaled_objective(const VbonConfig& config, const LogF& sample);

// log w(F_strict, F): the log ratio log pi/pi_ref that the target has, so what regression fits.
double log_weight(const VbonConfig& config, const LogF& sample);

// The absolute distance to BoN from means that a step has anyway: KL(pi || pi_bon) = KL(pi || ref) - E_pi[log w_N].
// N - 1 - log N before training (continuous rewards), 0 at the optimum.
double kl_to_bon(double kl_to_reference, double mean_log_w);
// The same by log F alone, for rewards that do not tie: KL - (N-1) E_pi[log F] - log N.
double kl_to_bon_untied(double kl_to_reference, double mean_log_f, double n);

}  // namespace vbon
