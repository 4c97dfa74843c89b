// Least squares of -a exp(-b x) to (reward, log F-hat): Levenberg-Marquardt on (log a, log b) of standardised rewards,
// from the Gumbel distribution of maximum likelihood (exp of the curve is a Gumbel distribution function).
#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "vbon/objective/log_f.hpp"

namespace vbon {
namespace {

struct Points {
  std::vector<double> z;  // standardised rewards
  std::vector<double> y;  // log F-hat (add_one, strict)
};

struct Parameters {
  double c;  // log a
  double log_b;
};

double residual_squares(const Points& points, Parameters p) {
  const double b = std::exp(p.log_b);
  double sum = 0;
  for (std::size_t i = 0; i < points.z.size(); ++i) {
    const double r = points.y[i] + std::exp(p.c - b * points.z[i]);
    sum += r * r;
  }
  return sum;
}

// Scale of the Gumbel distribution: the root of s + mean(z e^{-z/s}) / mean(e^{-z/s}) - mean(z), which increases in s.
double gumbel_scale(const std::vector<double>& z) {
  const double smallest = *std::min_element(z.begin(), z.end());
  const auto excess = [&](double s) {
    double weights = 0, weighted = 0, plain = 0;
    for (const double v : z) {
      const double w = std::exp(-(v - smallest) / s);
      weights += w;
      weighted += w * v;
      plain += v;
    }
    return s + weighted / weights - plain / static_cast<double>(z.size());
  };
  double low = 1e-3, high = 1e2;  // z has standard deviation 1
  for (int i = 0; i < 60; ++i) {
    const double middle = std::sqrt(low * high);
    (excess(middle) < 0 ? low : high) = middle;
  }
  return std::sqrt(low * high);
}

Parameters gumbel_start(const std::vector<double>& z) {
  const double s = gumbel_scale(z);
  const double smallest = *std::min_element(z.begin(), z.end());
  double mean = 0;
  for (const double v : z) mean += std::exp(-(v - smallest) / s);
  mean /= static_cast<double>(z.size());
  return {smallest / s - std::log(mean), -std::log(s)};  // location / s = -log mean e^{-z/s}
}

Parameters least_squares(const Points& points, Parameters p) {
  double cost = residual_squares(points, p);
  for (int halvings = 0; halvings < 60 && !std::isfinite(cost); ++halvings) {  // a far outlier below: start flatter
    p.log_b -= std::numbers::ln2;
    cost = residual_squares(points, p);
  }
  double damping = 1e-3;
  for (int iteration = 0; iteration < 200 && damping < 1e12; ++iteration) {
    const double b = std::exp(p.log_b);
    double cc = 0, cb = 0, bb = 0, gc = 0, gb = 0;  // normal equations
    for (std::size_t i = 0; i < points.z.size(); ++i) {
      const double e = std::exp(p.c - b * points.z[i]);
      const double r = points.y[i] + e;
      const double jc = e;
      const double jb = -b * points.z[i] * e;
      cc += jc * jc;
      cb += jc * jb;
      bb += jb * jb;
      gc += jc * r;
      gb += jb * r;
    }
    const double mc = cc * (1 + damping), mb = bb * (1 + damping);
    const double determinant = mc * mb - cb * cb;
    if (!(determinant > 0)) break;
    const Parameters step{-(mb * gc - cb * gb) / determinant, -(mc * gb - cb * gc) / determinant};
    const Parameters next{p.c + step.c, p.log_b + step.log_b};
    const double next_cost = residual_squares(points, next);
    if (next_cost <= cost) {  // false for NaN and infinity
      const bool still = std::abs(step.c) + std::abs(step.log_b) < 1e-12;
      p = next;
      cost = next_cost;
      damping = std::max(damping / 10, 1e-12);
      if (still) break;
    } else {
      damping *= 10;
    }
  }
  return p;
}

}  // namespace

double ExponentialFit::operator()(double x) const { return -std::exp(log_scale - rate * (x - centre)); }

ExponentialFit fit_exponential(std::span<const float> sorted) {
  const std::size_t m = sorted.size();
  if (m < 2 || sorted.front() == sorted.back()) return {};
  double mean = 0, variance = 0;
  for (const float r : sorted) mean += static_cast<double>(r) / static_cast<double>(m);
  for (const float r : sorted) variance += (r - mean) * (r - mean) / static_cast<double>(m);
  const double sd = std::sqrt(variance);

  Points points;
  std::size_t lt = 0;
  for (std::size_t i = 0; i < m; ++i) {
    if (i > 0 && sorted[i] != sorted[i - 1]) lt = i;
    points.z.push_back((sorted[i] - mean) / sd);
    points.y.push_back(std::log(static_cast<double>(lt + 1) / static_cast<double>(m + 1)));
  }
  const Parameters p = least_squares(points, gumbel_start(points.z));
  const ExponentialFit fit{.log_scale = p.c, .rate = std::exp(p.log_b) / sd, .centre = mean};
  return std::isfinite(fit.log_scale) && std::isfinite(fit.rate) ? fit : ExponentialFit{};
}

}  // namespace vbon
