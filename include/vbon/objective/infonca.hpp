// InfoNCA (Chen, He, Yuan, Cui, Su and Zhu 2024, arXiv 2402.05369) with the weight of Best-of-N in the place of
// exp(reward/alpha): which of K reference samples of one prompt is the best, as a classification,
//
//   -sum_i p_i log q_i,   p = softmax(log w),   q = softmax(log pi/pi_ref),   over the K samples.
//
// Optimum for any K >= 2: log pi/pi_ref = log w + a constant of the prompt, so pi = pi_ref w / Z. As in the centred
// regression the normaliser is free; but a sample of low F, whose log w goes to -infinity, asks for a small q alone.
#pragma once

#include <span>

namespace vbon {

// KL(p || q) in nats: the loss less the entropy of p, 0 where it is fitted. `slope` (out): d loss / d log ratio of each
// sample, q - p. A weight of 0 (log w = -infinity) is one that nothing asks for; where all are 0 there is nothing to
// learn: 0 and slopes of 0.
double infonca_loss(std::span<const double> log_w, std::span<const double> log_ratio, std::span<double> slope);

}  // namespace vbon
