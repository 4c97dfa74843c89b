#include "vbon/objective/bon_curve.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "vbon/base/error.hpp"
#include "vbon/objective/bon.hpp"

namespace vbon {
namespace {

// [m+1]: P(all of N lie among the k lowest of m), without replacement for integer N <= m, with replacement else.
std::vector<double> shares_below(std::size_t m, double n) {
  std::vector<double> shares(m + 1, 1.0);
  if (n != std::round(n) || n > static_cast<double>(m)) {
    for (std::size_t k = 0; k < m; ++k) shares[k] = std::pow(static_cast<double>(k) / static_cast<double>(m), n);
    return shares;
  }
  for (std::size_t k = m; k > 0; --k)  // C(k-1,N) / C(k,N) = (k-N)/k
    shares[k - 1] = shares[k] * std::max(0.0, static_cast<double>(k) - n) / static_cast<double>(k);
  return shares;
}

struct Group {
  std::size_t begin, end;  // positions in ascending order
};

struct Sorted {
  std::vector<std::size_t> order;
  std::vector<Group> groups;  // of equal rewards
};

Sorted sorted_groups(std::span<const float> rewards) {
  Sorted s;
  s.order.resize(rewards.size());
  std::iota(s.order.begin(), s.order.end(), std::size_t{0});
  std::sort(s.order.begin(), s.order.end(), [&](std::size_t a, std::size_t b) { return rewards[a] < rewards[b]; });
  for (std::size_t begin = 0; begin < s.order.size();) {
    std::size_t end = begin;
    while (end < s.order.size() && rewards[s.order[end]] == rewards[s.order[begin]]) ++end;
    check(end > begin, "rewards that are numbers");
    s.groups.push_back({begin, end});
    begin = end;
  }
  return s;
}

std::vector<double> weights_of(const Sorted& s, double n) {
  const std::vector<double> shares = shares_below(s.order.size(), n);
  std::vector<double> weights(s.order.size());
  for (const Group& g : s.groups) {
    const double mass = shares[g.end] - shares[g.begin];
    for (std::size_t i = g.begin; i < g.end; ++i) weights[s.order[i]] = mass / static_cast<double>(g.end - g.begin);
  }
  return weights;
}

// Draw the opponent first, then N of the other M-1: the same as an opponent outside the subset.
double win_of(const Sorted& s, double n) {
  const std::vector<double> shares = shares_below(s.order.size() - 1, n);
  double win = 0;
  for (const Group& g : s.groups)
    win += static_cast<double>(g.end - g.begin) * (1.0 - 0.5 * (shares[g.begin] + shares[g.end - 1]));
  return win / static_cast<double>(s.order.size());
}

double kl_of(const Sorted& s, double n) {
  const double m = static_cast<double>(s.order.size());
  double kl = 0;
  for (const Group& g : s.groups) {
    const double f_strict = static_cast<double>(g.begin) / m, f = static_cast<double>(g.end) / m;
    const double log_w = log_bon_weight(f_strict, f, n);
    kl += (f - f_strict) * std::exp(log_w) * log_w;
  }
  return kl;
}

}  // namespace

std::vector<double> bon_weights(std::span<const float> rewards, double n) {
  check(!rewards.empty() && n >= 1.0, "a pool and N >= 1");
  return weights_of(sorted_groups(rewards), n);
}

BonOfPool bon_of_pool(std::span<const float> rewards, double n) {
  check(rewards.size() >= 2 && n >= 1.0, "a pool of two samples or more, and N >= 1");
  const Sorted s = sorted_groups(rewards);
  const std::vector<double> weights = weights_of(s, n);
  BonOfPool result{.win = win_of(s, n), .kl = kl_of(s, n)};
  for (std::size_t i = 0; i < rewards.size(); ++i) result.reward += weights[i] * rewards[i];
  return result;
}

double bon_win_judged(std::span<const float> rewards, std::span<const float> judged, double n) {
  check(rewards.size() >= 2 && judged.size() == rewards.size() && n >= 1.0, "a pool and its judgements, and N >= 1");
  const Sorted s = sorted_groups(rewards);
  const std::vector<double> shares = shares_below(rewards.size() - 1, n);
  double win = 0;
  for (const Group& of_opponent : s.groups)
    for (std::size_t opponent = of_opponent.begin; opponent < of_opponent.end; ++opponent)
      for (const Group& g : s.groups) {
        // Without the opponent its own group is one shorter, and those above begin one lower.
        const bool same = g.begin == of_opponent.begin;
        const std::size_t begin = g.begin - (g.begin > of_opponent.begin ? 1 : 0);
        const std::size_t end = g.end - (g.begin >= of_opponent.begin ? 1 : 0);
        if (begin == end) continue;
        const float other = judged[s.order[opponent]];
        double beaten = 0;
        for (std::size_t i = g.begin; i < g.end; ++i) {
          if (same && i == opponent) continue;
          const float own = judged[s.order[i]];
          beaten += own > other ? 1.0 : own == other ? 0.5 : 0.0;
        }
        win += (shares[end] - shares[begin]) * beaten / static_cast<double>(end - begin);
      }
  return win / static_cast<double>(rewards.size());
}

BonPoint bon_point(std::span<const float> rewards, std::int64_t num_prompts, double n) {
  check(num_prompts >= 1 && rewards.size() % static_cast<std::size_t>(num_prompts) == 0, "pools of [P, M] rewards");
  const std::size_t m = rewards.size() / static_cast<std::size_t>(num_prompts);
  std::vector<double> reward, win, kl;
  for (std::size_t p = 0; p < static_cast<std::size_t>(num_prompts); ++p) {
    const BonOfPool of = bon_of_pool(rewards.subspan(p * m, m), n);
    reward.push_back(of.reward);
    win.push_back(of.win);
    kl.push_back(of.kl);
  }
  return {.n = n, .reward = mean_error(reward), .win = mean_error(win), .kl = mean_error(kl)};
}

}  // namespace vbon
