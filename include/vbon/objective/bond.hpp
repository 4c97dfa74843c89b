// Rewards of BOND and J-BOND (Sessa et al. 2024), in nats, for a loop that maximises E[reward] - KL(pi || reference).
//
//   BOND    (N-1) log p_<=  [ + log sum_{i=1..N} (p_< / p_<=)^(i-1) ]     the bracket is what the authors drop
//   J-BOND  -log 16 where the response is worse than both of two anchor samples, else 0
//
// p_<= and p_< are F and F_strict. With the bracket the reward is log w_N, that of vBoN's exact objective.
#pragma once

#include "vbon/objective/log_f.hpp"

namespace vbon {

// f > 0, real n >= 1.
double bond_reward(const Quantiles& quantiles, double n, bool with_collisions);

double jbond_reward(float reward, float anchor_a, float anchor_b);

}  // namespace vbon
