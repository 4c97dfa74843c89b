// BoNBoN (Gui, Garbacea and Veitch 2024): the best and the worst of the same n reference samples,
//
//   alpha (-log pi(best)) + (1 - alpha) (margin - 1/(2 beta*_n))^2,   margin = log pi/pi_ref(best) - log
//   pi/pi_ref(worst)
//
// where 1/(2 beta*_n) = (n-1) H_{n-1} is the margin that Best-of-n itself has on average: the optimum of the square in
// expectation, not sample by sample, so the method's own optimum is not pi_bon.
#pragma once

#include <cstdint>

namespace vbon {

// 1/(2 beta*_n); n >= 1. 18.15 at n = 8, 0 at n = 1 (the best of one is the reference: nothing to learn).
double bonbon_margin(std::int64_t n);
// beta*_n, n >= 2.
double bonbon_beta(std::int64_t n);

struct BonbonLoss {
  double loss = 0;
  double nll = 0, square = 0;              // its two terms, not weighted
  double best_slope = 0, worst_slope = 0;  // d loss / d log pi of each response
};
BonbonLoss bonbon_loss(double logp_best, double margin, std::int64_t n, double alpha);

// `alpha: auto`: the two terms weigh the same for a policy that is still the reference, whose best responses have
// -log pi_ref of `mean_nll` on average. In (0, 1).
double bonbon_alpha(std::int64_t n, double mean_nll);

}  // namespace vbon
