#include "vbon/objective/bonbon.hpp"

#include "vbon/base/error.hpp"

namespace vbon {

double bonbon_margin(std::int64_t n) {
  check(n >= 1, "n >= 1");
  double harmonic = 0;
  for (std::int64_t k = 1; k < n; ++k) harmonic += 1.0 / static_cast<double>(k);
  return static_cast<double>(n - 1) * harmonic;
}

double bonbon_beta(std::int64_t n) {
  check(n >= 2, "n >= 2");
  return 1 / (2 * bonbon_margin(n));
}

BonbonLoss bonbon_loss(double logp_best, double margin, std::int64_t n, double alpha) {
  const double residual = margin - bonbon_margin(n);
  const double of_margin = (1 - alpha) * 2 * residual;
  return {.loss = alpha * -logp_best + (1 - alpha) * residual * residual,
          .nll = -logp_best,
          .square = residual * residual,
          .best_slope = of_margin - alpha,
          .worst_slope = -of_margin};
}

double bonbon_alpha(std::int64_t n, double mean_nll) {
  check(mean_nll > 0, "-log pi_ref > 0");
  const double square = bonbon_margin(n) * bonbon_margin(n);
  return square / (square + mean_nll);
}

}  // namespace vbon
