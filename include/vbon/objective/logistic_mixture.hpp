// A mixture of logistic distributions: the amortised F of one prompt's rewards, analytic and strictly increasing.
#pragma once

#include <span>
#include <vector>

#include "vbon/objective/log_f.hpp"

namespace vbon {

struct LogisticMixture {
  std::vector<double> log_weight;  // [K] of weights that sum to 1
  std::vector<double> mean;        // [K] in rewards
  std::vector<double> scale;       // [K] > 0; the standard deviation is pi/sqrt(3) of it

  double log_cdf(double x) const;  // finite far below the mixture, where the CDF itself is 0 in float64
  double cdf(double x) const;
  double log_density(double x) const;
};

// log F and the quantile pair of a reward that is a multiple of `round` (0: continuous): F_strict half a step below,
// F half a step above. Never at floor or ceiling.
LogF log_f_of(const LogisticMixture& mixture, double reward, double round);

// log_density(x); its gradient by what a mixture is parametrised with is added with factor `by` to `out` [3K]: by the
// weights' logits (weight = softmax), the means, the scales.
double add_log_density_gradient(const LogisticMixture& mixture, double x, double by, std::span<double> out);

}  // namespace vbon
