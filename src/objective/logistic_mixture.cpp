#include "vbon/objective/logistic_mixture.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "vbon/base/error.hpp"
#include "vbon/objective/logistic.hpp"

namespace vbon {
namespace {

// log sum_k weight_k e^{term(k)}
template <class Term>
double log_mean(const LogisticMixture& m, Term&& term) {
  check(!m.log_weight.empty() && m.mean.size() == m.log_weight.size() && m.scale.size() == m.log_weight.size(),
        "a mixture has components");
  double highest = -std::numeric_limits<double>::infinity(), sum = 0;
  for (std::size_t k = 0; k < m.log_weight.size(); ++k) {
    const double log_term = m.log_weight[k] + term(k);
    if (log_term > highest) {
      sum = sum * std::exp(highest - log_term) + 1;
      highest = log_term;
    } else {
      sum += std::exp(log_term - highest);
    }
  }
  return highest + std::log(sum);
}

double log_density_of(const LogisticMixture& m, std::size_t k, double x) {
  const double u = (x - m.mean[k]) / m.scale[k];
  return -u - 2 * softplus(-u) - std::log(m.scale[k]);
}

}  // namespace

double LogisticMixture::log_cdf(double x) const {
  return log_mean(*this, [&](std::size_t k) { return -softplus(-(x - mean[k]) / scale[k]); });
}

double LogisticMixture::cdf(double x) const { return std::min(1.0, std::exp(log_cdf(x))); }

double LogisticMixture::log_density(double x) const {
  return log_mean(*this, [&](std::size_t k) { return log_density_of(*this, k, x); });
}

LogF log_f_of(const LogisticMixture& mixture, double reward, double round) {
  check(std::isfinite(reward) && round >= 0, "a finite reward");
  const double below = mixture.log_cdf(reward - 0.5 * round), above = mixture.log_cdf(reward + 0.5 * round);
  return {.log_f = std::min(0.0, below), .exact = {std::min(1.0, std::exp(below)), std::min(1.0, std::exp(above))}};
}

double add_log_density_gradient(const LogisticMixture& m, double x, double by, std::span<double> out) {
  const std::size_t components = m.log_weight.size();
  check(out.size() == 3 * components, "a gradient for every parameter");
  const double whole = m.log_density(x);
  for (std::size_t k = 0; k < components; ++k) {
    const double share = std::exp(m.log_weight[k] + log_density_of(m, k, x) - whole);
    const double u = (x - m.mean[k]) / m.scale[k], pull = std::tanh(0.5 * u);
    out[k] += by * (share - std::exp(m.log_weight[k]));
    out[components + k] += by * share * pull / m.scale[k];
    out[2 * components + k] += by * share * (u * pull - 1) / m.scale[k];
  }
  return whole;
}

}  // namespace vbon
