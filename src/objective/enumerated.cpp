#include "vbon/objective/enumerated.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "vbon/base/error.hpp"
#include "vbon/objective/bon.hpp"
#include "vbon/objective/vbon.hpp"

namespace vbon {

std::vector<Quantiles> enumerated_quantiles(std::span<const double> pi_ref, std::span<const double> rewards,
                                            Ties ties) {
  check(pi_ref.size() == rewards.size() && !pi_ref.empty(), "a reward for every string");
  std::vector<std::size_t> order(pi_ref.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return rewards[a] < rewards[b]; });
  std::vector<Quantiles> result(pi_ref.size());
  double before = 0;
  for (std::size_t begin = 0; begin < order.size();) {
    std::size_t end = begin + 1;
    if (ties == Ties::uniform)
      while (end < order.size() && rewards[order[end]] == rewards[order[begin]]) ++end;
    double mass = 0;
    for (std::size_t i = begin; i < end; ++i) mass += pi_ref[order[i]];
    const double upto = end == order.size() ? 1.0 : std::min(1.0, before + mass);
    for (std::size_t i = begin; i < end; ++i) result[order[i]] = {std::min(before, upto), upto};
    before = upto;
    begin = end;
  }
  return result;
}

std::vector<double> enumerated_log_bon(std::span<const double> pi_ref, std::span<const Quantiles> quantiles, double n) {
  check(pi_ref.size() == quantiles.size(), "quantiles of every string");
  std::vector<double> result;
  result.reserve(pi_ref.size());
  for (std::size_t i = 0; i < pi_ref.size(); ++i)
    result.push_back(std::log(pi_ref[i]) + log_bon_weight(quantiles[i].f_strict, quantiles[i].f, n));
  return result;
}

double enumerated_kl(std::span<const double> log_pi, std::span<const double> log_q) {
  check(log_pi.size() == log_q.size(), "two distributions over the same strings");
  double kl = 0;
  for (std::size_t i = 0; i < log_pi.size(); ++i) {
    const double p = std::exp(log_pi[i]);
    if (p > 0) kl += p * (log_pi[i] - log_q[i]);
  }
  return kl;
}

double enumerated_objective(Objective objective, double n, std::span<const double> log_pi,
                            std::span<const double> pi_ref, std::span<const Quantiles> quantiles) {
  check(log_pi.size() == pi_ref.size() && pi_ref.size() == quantiles.size(), "one entry a string");
  double value = 0;
  for (std::size_t i = 0; i < log_pi.size(); ++i) {
    const double p = std::exp(log_pi[i]);
    if (p == 0) continue;
    const auto [f_strict, f] = quantiles[i];
    const ObjectiveNats nats = objective_nats(objective, n, log_bon_weight(f_strict, f, n), std::log(f_strict));
    const double kl_weight = n == 1.0 ? 1.0 : nats.kl;  // unscaled: every objective is -KL(pi || ref) at N = 1
    value += p * (nats.reward - kl_weight * (log_pi[i] - std::log(pi_ref[i])) + nats.entropy * log_pi[i]);
  }
  return value;
}

double effective_n(std::span<const double> log_pi, std::span<const Quantiles> quantiles, double max_n) {
  check(log_pi.size() == quantiles.size(), "quantiles of every string");
  check(max_n >= 1.0, "max_n >= 1");
  // E_pi[d log w_N / dN] decreases in N, so its root is the only maximum of E_pi[log w_N].
  const auto slope = [&](double n) {
    double sum = 0;
    for (std::size_t i = 0; i < log_pi.size(); ++i) {
      const double p = std::exp(log_pi[i]);
      if (p > 0) sum += p * log_bon_weight_slope(quantiles[i].f_strict, quantiles[i].f, n);
    }
    return sum;
  };
  if (slope(1.0) <= 0) return 1.0;
  if (slope(max_n) >= 0) return max_n;
  double low = 1.0, high = max_n;
  for (int i = 0; i < 100 && high / low > 1 + 1e-14; ++i) {
    const double middle = std::sqrt(low * high);
    (slope(middle) > 0 ? low : high) = middle;
  }
  return std::sqrt(low * high);
}

}  // namespace vbon
