// Proximal policy optimisation on tokens, as pure functions of tensors; nothing here communicates or averages locally.
//
// Letters: B sequences, T response positions, K samples a prompt (sequences of a prompt are adjacent, B = P K).
// Masks are bool [B, T]: true at the response's tokens, its end-of-sequence token included. What lies outside a mask is
// never read (it may be NaN) and comes out as 0. float32 or float64, any device; no gradient flows through advantages.
//
// Averages are over the whole batch of all learners: functions here return sums, or take the count that the caller has
// summed over ranks. Dividing by a local count would weight tokens by the rank or micro-batch that they fell into.
//
// KL weight and whitening. The policy gradient maximises E[score] - kl * KL - entropy * H with one ratio between its
// terms: that ratio is what N (or kl_coef) means. Whitening multiplies advantages by 1/sd, so a KL term that stands
// outside them would keep its own size, i.e. have the weight kl * sd against them: another N, drifting with sd. Hence:
//
//   penalty: the cost log pi/pi_ref of each sampled token is part of its reward, so it is whitened with the rest.
//
//   exact: the cost is the exact KL of each step. What an action changes about later steps is part of its reward; the
//     direct gradient of the KL at the step itself is added to the loss with weight kl * Whitening::factor, normalised
//     by the same token count as the policy loss (direct_weights below).
//
// Both sums are the gradient of the same objective, times the factor.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "vbon/objective/ppo_config.hpp"

namespace vbon {

// ---- masks and sums

at::Tensor response_mask(const at::Tensor& lengths, std::int64_t num_positions);  // int [B] -> bool [B, T]
at::Tensor masked_sum(const at::Tensor& values, const at::Tensor& mask);          // scalar, differentiable
at::Tensor masked_mean(const at::Tensor& values, const at::Tensor& mask, double global_count);

// Sums in double that learners add up (one all-reduce of three numbers) before anyone uses mean() or variance().
struct Moments {
  double count = 0;
  double sum = 0;
  double sum_squares = 0;
  double mean() const;
  double variance() const;  // biased (divided by count), >= 0
  Moments& operator+=(const Moments& other);
};
Moments masked_moments(const at::Tensor& values, const at::Tensor& mask);

// values -> (values - shift) * factor.
struct Whitening {
  double shift = 0;
  double factor = 1;
};
// factor = 1/sqrt(variance + 1e-8). With shift_mean the mean becomes 0, else it is kept.
Whitening whitening(const Moments& global, bool shift_mean);
at::Tensor whitened(const at::Tensor& values, const at::Tensor& mask, const Moments& global, bool shift_mean);

// ---- rewards

// Score [B] of each response after the rule for those that did not end by themselves (finished: bool or uint8 [B]).
at::Tensor score_with_eos_rule(const at::Tensor& score, const at::Tensor& finished, const PpoConfig& config);

// What a token costs against its score, both forms with expectation kl * KL + entropy * H over a response:
// sampled: kl * (logp - logp_ref) - entropy * logp;   exact: kl * KL_t + entropy * H_t.
struct CostWeights {
  double kl = 0;
  double entropy = 0;  // only objective L1 has one
};
at::Tensor sampled_cost(const at::Tensor& logp, const at::Tensor& logp_ref, const at::Tensor& mask,
                        CostWeights weights);
at::Tensor exact_cost(const at::Tensor& kl, const at::Tensor& entropy, const at::Tensor& mask, CostWeights weights);

// Rewards [B, T] of the tokens: minus the cost that each action answers for (penalty: its own; exact: that of the next
// step, since its own is paid by the direct gradient), and the score at the response's last token, ended by itself or
// cut.
at::Tensor token_rewards(const at::Tensor& score, const at::Tensor& cost, const at::Tensor& mask, KlForm form);

// ---- advantages

struct Advantages {
  at::Tensor advantages;  // [B, T], not whitened
  at::Tensor returns;     // [B, T], what the critic learns; = advantages + values
};
// Generalised advantage estimation; the value after a response's last token is 0.
Advantages gae(const at::Tensor& rewards, const at::Tensor& values, const at::Tensor& mask, double gamma, double lam);

// Sum of the rewards from a token to the end of its response, discounted by gamma a step.
at::Tensor reward_to_go(const at::Tensor& rewards, const at::Tensor& mask, double gamma = 1.0);

// values [B, ...] minus the mean of the prompt's other K-1 samples, per position; K >= 2.
at::Tensor leave_one_out(const at::Tensor& values, std::int64_t samples_per_prompt);

// Advantages without a critic: score minus baseline, minus the cost to come minus its own baseline at that position (a
// sample that has ended has none to come). baseline: rloo or none. `returns` is the undiscounted reward to go.
Advantages sequence_advantages(const at::Tensor& score, const at::Tensor& cost, const at::Tensor& mask, KlForm form,
                               Baseline baseline, std::int64_t samples_per_prompt);

// Weights of the direct gradients of KL_t and H_t (both summed over tokens and divided by the policy loss's count);
// zero for the penalty form.
CostWeights direct_weights(CostWeights weights, KlForm form, const Whitening& of_advantages);

// ---- losses: sums over the mask; divide by the global count

struct PolicyLoss {
  at::Tensor loss_sum;           // scalar: sum of max(-A ratio, -A clamp(ratio, 1 -+ clip)); differentiable in logp
  at::Tensor gradient;           // [B, T], d loss_sum / d logp, for callers with a backward pass of their own
  double clipped = 0;            // tokens whose clipped branch is the larger loss
  double ratio_sum = 0;          // sum of pi / pi_behavior
  double max_abs_log_ratio = 0;  // 0 in the first minibatch of the first epoch if sampler and learner agree
  double squared_log_ratio = 0;  // sum; half its mean is the k2 estimate of KL(behavior || pi)
};
PolicyLoss policy_loss(const at::Tensor& logp, const at::Tensor& logp_behavior, const at::Tensor& advantages,
                       const at::Tensor& mask, double clip);

struct ValueLoss {
  at::Tensor loss_sum;  // scalar: sum of 0.5 max((v - R)^2, (clamp(v, v_old -+ clip) - R)^2); differentiable in values
  at::Tensor gradient;  // [B, T], d loss_sum / d values
  double clipped = 0;   // tokens whose clipped error is the larger
};
// value_clip 0: no limit.
ValueLoss value_loss(const at::Tensor& values, const at::Tensor& old_values, const at::Tensor& returns,
                     const at::Tensor& mask, double value_clip);

// 1 - Var(returns - values) / Var(returns), from global moments; NaN when the returns do not vary.
double explained_variance(const Moments& residuals, const Moments& returns);

// ---- KL coefficient of method ppo

// The next coefficient after a step of num_responses with mean KL `observed` (nats a response): proportional control
// with the error clipped to +-20 %.
double adapted_kl_coef(double kl_coef, double observed, double target, double horizon, std::int64_t num_responses);
// kl_coef, or its default.
double initial_kl_coef(const PpoConfig& config);

}  // namespace vbon
