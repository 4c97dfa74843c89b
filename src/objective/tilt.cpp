#include "vbon/objective/tilt.hpp"

#include <array>
#include <cmath>

#include "vbon/base/error.hpp"
#include "vbon/objective/bon.hpp"

namespace vbon {
namespace {

// log( (e^a - e^b) / (a - b) ), a >= b: the log of the mean of e^x over [b, a].
double log_mean_exp_between(double b, double a) {
  const double d = a - b;
  return d == 0 ? a : a + std::log(-std::expm1(-d) / d);
}

// Mean of g over [0, 1] by Gauss-Legendre on panels that double towards 1, where the weights of large N live.
template <class Function>
double integral(const Function& g) {
  static constexpr std::array<double, 8> kNode = {0.0950125098376374, 0.2816035507792589, 0.4580167776572274,
                                                  0.6178762444026438, 0.7554044083550030, 0.8656312023878318,
                                                  0.9445750230732326, 0.9894009349916499};
  static constexpr std::array<double, 8> kWeight = {0.1894506104550685, 0.1826034150449236, 0.1691565193950025,
                                                    0.1495959888165767, 0.1246289712555339, 0.0951585116824928,
                                                    0.0622535239386479, 0.0271524594117541};
  double sum = 0, begin = 0;
  for (int panel = 0; panel < 48; ++panel) {
    const double end = panel == 47 ? 1.0 : 1 - std::ldexp(1.0, -panel - 1);
    const double middle = (begin + end) / 2, half = (end - begin) / 2;
    for (std::size_t i = 0; i < kNode.size(); ++i)
      sum += kWeight[i] * half * (g(middle - half * kNode[i]) + g(middle + half * kNode[i]));
    begin = end;
  }
  return sum;
}

}  // namespace

double log_tilt_weight(Target target, double f_strict, double f, double n) {
  if (target == Target::bon) return log_bon_weight(f_strict, f, n);
  check(0 <= f_strict && f_strict <= f && f <= 1, "0 <= F_strict <= F <= 1");
  check(n >= 1, "N >= 1");
  if (n == 1) return 0;
  const double s = n - 1;  // 1/beta, mu
  if (target == Target::exp_tilt) return log_mean_exp_between(s * f_strict, s * f) - log_mean_exp_between(0, s);
  // w is the derivative of u e^{s (u-1)}. The mean over [a, b], d = b - a, is
  // e^{s (b-1)} ( (1 - e^{-s d}) a / d + 1 ): no cancellation.
  const double d = f - f_strict;
  const double rate = d == 0 ? s : -std::expm1(-s * d) / d;
  return s * (f - 1) + std::log1p(rate * f_strict);
}

double tilt_kl(Target target, double n) {
  check(n >= 1, "N >= 1");
  if (target == Target::bon) return bon_kl(n);
  return integral([&](double u) {
    const double log_w = log_tilt_weight(target, u, u, n);
    return std::exp(log_w) * log_w;
  });
}

double tilt_win_rate(Target target, double n) {
  check(n >= 1, "N >= 1");
  if (target == Target::bon) return bon_win_rate(n);
  return integral([&](double u) { return std::exp(log_tilt_weight(target, u, u, n)) * u; });
}

}  // namespace vbon
