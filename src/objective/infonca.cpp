#include "vbon/objective/infonca.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "vbon/base/error.hpp"

namespace vbon {
namespace {

// Of finite logits and -infinity, at least one finite.
std::vector<double> log_softmax(std::span<const double> logits) {
  const double top = *std::ranges::max_element(logits);
  double sum = 0;
  for (const double l : logits) sum += std::exp(l - top);
  std::vector<double> log_p;
  for (const double l : logits) log_p.push_back(l - top - std::log(sum));
  return log_p;
}

}  // namespace

double infonca_loss(std::span<const double> log_w, std::span<const double> log_ratio, std::span<double> slope) {
  check(!log_w.empty() && log_w.size() == log_ratio.size() && log_w.size() == slope.size(), "a weight a sample");
  std::ranges::fill(slope, 0);
  if (*std::ranges::max_element(log_w) == -std::numeric_limits<double>::infinity()) return 0;
  const std::vector<double> log_p = log_softmax(log_w), log_q = log_softmax(log_ratio);
  double kl = 0;
  for (std::size_t i = 0; i < slope.size(); ++i) {
    const double p = std::exp(log_p[i]);
    if (p > 0) kl += p * (log_p[i] - log_q[i]);
    slope[i] = std::exp(log_q[i]) - p;
  }
  return kl;
}

}  // namespace vbon
