#include "vbon/objective/bon.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "vbon/base/error.hpp"

namespace vbon {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

void check_quantiles(double f_strict, double f, double n) {
  check(0.0 <= f_strict && f_strict <= f && f <= 1.0, "0 <= F_strict <= F <= 1");
  check(n >= 1.0 && n < kInfinity, "N >= 1");
}

// log(a / b), 0 < a <= b, to full relative precision also between neighbours: their difference is exact (Sterbenz).
double log_quotient(double a, double b) { return a < 0.5 * b ? std::log(a) - std::log(b) : std::log1p((a - b) / b); }

// log( expm1(n t) / expm1(t) ) for t <= 0, n >= 1; log n at t = 0.
double log_geometric_ratio(double t, double n) {
  if (t == 0.0) return std::log(n);
  return std::log(std::expm1(n * t) / std::expm1(t));
}

}  // namespace

double log_bon_weight(double f_strict, double f, double n) {
  check_quantiles(f_strict, f, n);
  if (n == 1.0) return 0.0;
  if (f == 0.0) return -kInfinity;
  const double power = (n - 1.0) * std::log(f);
  if (f_strict == 0.0) return power;
  return power + log_geometric_ratio(log_quotient(f_strict, f), n);
}

double log_bon_weight_slope(double f_strict, double f, double n) {
  check_quantiles(f_strict, f, n);
  check(f > 0.0, "F > 0 where the weight is differentiated");
  if (f_strict == 0.0) return std::log(f);
  const double t = log_quotient(f_strict, f);
  if (t == 0.0) return std::log(f) + 1.0 / n;
  return std::log(f) - t / std::expm1(-n * t);
}

double log_pi_bon(double log_p, double log_f_strict, double n) {
  check(log_p <= 0.0 && log_f_strict <= 0.0, "logarithms of probabilities");
  check(n >= 1.0 && n < kInfinity, "N >= 1");
  if (log_p == -kInfinity) return -kInfinity;
  const double l = log_p - log_f_strict;
  if (l == kInfinity) return n * log_p;
  const double log_x = std::log(n) + l;
  if (l < -40.0 && log_x < -18.0) {  // log(1 + p/F) = p/F to the last bit, and p/F may be below the smallest double
    return n * log_f_strict + log_x + std::exp(log_x) / 2.0;
  }
  // (F + p)^N (1 - e^-x) with x = N log(1 + p/F).
  const double small = std::log1p(std::exp(-std::abs(l)));
  const double x = n * (std::max(l, 0.0) + small);
  const double log_sum_power = n * std::max(log_p, log_f_strict) + n * small;
  return log_sum_power + (x < 0.7 ? std::log(-std::expm1(-x)) : std::log1p(-std::exp(-x)));
}

double n_from_beta(double beta) {
  check(beta > 0.0, "beta > 0");
  return 1.0 / beta + 1.0;
}

double beta_from_n(double n) {
  check(n >= 1.0, "N >= 1");
  return n == 1.0 ? kInfinity : 1.0 / (n - 1.0);
}

double bon_kl(double n) { return std::log(n) - (n - 1.0) / n; }
double bon_win_rate(double n) { return n / (n + 1.0); }
double bon_mean_log_f(double n) { return -1.0 / n; }
double bon_reverse_kl(double n) { return n - 1.0 - std::log(n); }

double bon_win_at_kl(double kl) {
  if (!(kl > 0)) return 0.5;
  double low = 1, high = 2;
  while (bon_kl(high) < kl && high < 1e300) high *= 2;
  for (int i = 0; i < 200; ++i) {
    const double middle = 0.5 * (low + high);
    (bon_kl(middle) < kl ? low : high) = middle;
  }
  return bon_win_rate(low);
}

std::strong_ordering total_order(float reward_a, std::span<const std::int32_t> tokens_a, float reward_b,
                                 std::span<const std::int32_t> tokens_b) {
  check(std::isfinite(reward_a) && std::isfinite(reward_b), "finite rewards");
  if (reward_a != reward_b) return reward_a < reward_b ? std::strong_ordering::less : std::strong_ordering::greater;
  return std::lexicographical_compare_three_way(tokens_a.begin(), tokens_a.end(), tokens_b.begin(), tokens_b.end());
}

}  // namespace vbon
