// Best-of-N itself, estimated from the M pool samples of a prompt: the curve that every trained policy is compared
// with.
//
// Integer N <= M: exact expectations over all subsets of N pool samples (unbiased, no further sampling). Real N, and N
// > M: BoN of the pool's empirical distribution, P(the best is among the k lowest of m) = (k/m)^N. Equal rewards share
// their weight equally (ties: uniform; a total order changes KL only, not reward and win rate). The win rate is taken
// against samples outside the subset (for real N: against a sample that the distribution leaves out), ties half:
// comparing with the rest of the whole pool is biased upwards.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "vbon/objective/stats.hpp"

namespace vbon {

// Probability of each sample to be the best of N, in the order given; sums to 1. Untied integer N: C(i-1,N-1) / C(M,N)
// for the i-th lowest; real N: (i/M)^N - ((i-1)/M)^N.
std::vector<double> bon_weights(std::span<const float> rewards, double n);

struct BonOfPool {
  double reward = 0;  // of the best of N
  double win = 0;     // of the best of N against another sample, M >= 2; integer N = M is taken as real N
  double kl = 0;      // KL(bon || ref) of the pool's own quantiles: E[w log w], tie-aware; at most log M
};
BonOfPool bon_of_pool(std::span<const float> rewards, double n);

// Win rate of the best of N by `rewards` when `judged` (of the same samples) decides who wins, ties half: against a sample
// outside the subset, too. With judged = rewards that is BonOfPool::win. O(M^2).
double bon_win_judged(std::span<const float> rewards, std::span<const float> judged, double n);

struct BonPoint {
  double n = 1;
  MeanError reward, win, kl;  // over prompts
};
// Pools of several prompts, [P, M].
BonPoint bon_point(std::span<const float> rewards, std::int64_t num_prompts, double n);

}  // namespace vbon
