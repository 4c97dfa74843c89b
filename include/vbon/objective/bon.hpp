// Best-of-N as a distribution: its weight against the reference, its log-probabilities, its closed forms.
//
// Words: p = pi_ref(y); F_strict(y) = P(y' before y), F(y) = P(y' before y, or tied with y), y' from the reference;
// "before" is by reward (ties: uniform) or in a total order of strings (ties: total_order, then F = F_strict + p).
// N >= 1 is real. Everything is in nats and in double; nothing here rounds to zero what float64 can hold.
#pragma once

#include <compare>
#include <cstdint>
#include <span>

namespace vbon {

// log w_N, w_N = pi_bon / pi_ref = (F^N - F_strict^N) / (F - F_strict); its limit N F^(N-1) where they are equal.
// 0 <= f_strict <= f <= 1. -inf only at F = 0 with N > 1. No cancellation: relative error of w_N a few N * 1e-16.
double log_bon_weight(double f_strict, double f, double n);

// d log w_N / dN; decreasing in N (w_N is the likelihood of a grouped exponential variable with rate N).
double log_bon_weight_slope(double f_strict, double f, double n);

// log pi_bon = log( (F_strict + p)^N - F_strict^N ) of a string that ties with no other (Proposition 1, or a total
// order), from log p and log F_strict: safe for log p = -800 and beside F_strict = 0 (log -inf).
double log_pi_bon(double log_p, double log_f_strict, double n);

// N and the KL weight of the matching reinforcement-learning problem: beta = 1 / (N - 1).
double n_from_beta(double beta);  // beta > 0
double beta_from_n(double n);     // N > 1; +inf at N = 1

// Closed forms for continuous rewards; upper bounds (KL, win rate) where rewards tie.
double bon_kl(double n);          // KL(bon || ref) = log N - (N-1)/N
double bon_win_rate(double n);    // N / (N+1), against one reference sample
double bon_mean_log_f(double n);  // E_bon[log F] = -1/N
double bon_reverse_kl(double n);  // KL(ref || bon) = N - 1 - log N: the distance to BoN before training
double bon_win_at_kl(double kl);  // bon_win_rate at the real N >= 1 whose bon_kl is `kl`

// The total order of appendix C: reward first, then token ids, lexicographically (a prefix comes before its
// extensions).
std::strong_ordering total_order(float reward_a, std::span<const std::int32_t> tokens_a, float reward_b,
                                 std::span<const std::int32_t> tokens_b);

}  // namespace vbon
