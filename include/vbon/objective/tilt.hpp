// Tilts of the reference by the quantile of a response's reward: targets pi/pi_ref = w(F) with the mean of w over F
// uniform in [0, 1] equal to 1. Best-of-N is one (bon.hpp); here are two more, each with a strength N > 1 of the same
// meaning, N - 1 = 1/beta, and closed forms.
//
//   exp_tilt   w = e^{F/beta} / Z, Z = beta (e^{1/beta} - 1): the highest win rate that its KL allows
//   poisson    w = (1 + mu F) e^{mu (F-1)}, mu = N - 1: the best of a random number of samples, 1 + Poisson(mu)
//
// Under ties a response holds the quantiles from F_strict to F and has the mean of w over them, as in Best-of-N with
// ties shared.
#pragma once

#include "vbon/objective/vbon_config.hpp"

namespace vbon {

// log of the mean of w over [f_strict, f]; 0 <= f_strict <= f <= 1, n >= 1. Target::bon: log_bon_weight.
double log_tilt_weight(Target target, double f_strict, double f, double n);

// Of continuous rewards; n >= 1.
double tilt_kl(Target target, double n);        // KL(target || pi_ref), nats
double tilt_win_rate(Target target, double n);  // against one reference sample

}  // namespace vbon
