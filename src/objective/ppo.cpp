#include "vbon/objective/ppo.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "vbon/base/error.hpp"

namespace vbon {
namespace {

void check_same(const at::Tensor& a, const at::Tensor& mask) {
  check(a.sizes() == mask.sizes() && mask.scalar_type() == at::kBool, "a bool mask of the tensor's shape");
}

// 0 outside the mask, whatever is there; the gradient there is 0 too.
at::Tensor within(const at::Tensor& values, const at::Tensor& mask) {
  check_same(values, mask);
  return at::where(mask, values, 0.0);
}

// Scalars of one device as doubles, in one transfer.
template <std::size_t N>
std::array<double, N> fetched(const std::array<at::Tensor, N>& scalars) {
  std::vector<at::Tensor> as_double;
  for (const at::Tensor& s : scalars) as_double.push_back(s.to(at::kDouble));
  const at::Tensor together = at::stack(as_double).to(at::kCPU);
  std::array<double, N> result;
  std::copy_n(together.const_data_ptr<double>(), N, result.begin());
  return result;
}

}  // namespace

at::Tensor response_mask(const at::Tensor& lengths, std::int64_t num_positions) {
  check(lengths.dim() == 1, "lengths [B]");
  return at::arange(num_positions, lengths.options()).unsqueeze(0) < lengths.unsqueeze(1);
}

at::Tensor masked_sum(const at::Tensor& values, const at::Tensor& mask) { return within(values, mask).sum(); }

at::Tensor masked_mean(const at::Tensor& values, const at::Tensor& mask, double global_count) {
  check(global_count > 0, "tokens to average over");
  return masked_sum(values, mask) / global_count;
}

double Moments::mean() const {
  check(count > 0, "values to average");
  return sum / count;
}

double Moments::variance() const { return std::max(sum_squares / count - mean() * mean(), 0.0); }  // NaN stays

Moments& Moments::operator+=(const Moments& other) {
  count += other.count;
  sum += other.sum;
  sum_squares += other.sum_squares;
  return *this;
}

Moments masked_moments(const at::Tensor& values, const at::Tensor& mask) {
  const at::NoGradGuard no_grad;
  const at::Tensor v = within(values, mask).to(at::kDouble);
  const auto [count, sum, squares] = fetched<3>({mask.sum(), v.sum(), (v * v).sum()});
  return {.count = count, .sum = sum, .sum_squares = squares};
}

Whitening whitening(const Moments& global, bool shift_mean) {
  const double factor = 1.0 / std::sqrt(global.variance() + 1e-8);
  return {.shift = shift_mean ? global.mean() : global.mean() * (1.0 - 1.0 / factor), .factor = factor};
}

at::Tensor whitened(const at::Tensor& values, const at::Tensor& mask, const Moments& global, bool shift_mean) {
  const Whitening w = whitening(global, shift_mean);
  return within((values.detach() - w.shift) * w.factor, mask);
}

at::Tensor score_with_eos_rule(const at::Tensor& score, const at::Tensor& finished, const PpoConfig& config) {
  check(score.dim() == 1 && score.sizes() == finished.sizes(), "score and finished [B]");
  if (config.missing_eos == MissingEos::as_is) return score;
  const at::Tensor ended = finished.to(at::kBool);
  if (config.missing_eos == MissingEos::score)
    return at::where(ended, score, config.missing_eos_score).to(score.dtype());
  return at::where(ended, score, score - config.missing_eos_penalty);
}

at::Tensor sampled_cost(const at::Tensor& logp, const at::Tensor& logp_ref, const at::Tensor& mask,
                        CostWeights weights) {
  const at::Tensor cost = weights.kl * (logp - logp_ref).detach();
  return within(weights.entropy == 0 ? cost : cost - weights.entropy * logp.detach(), mask);
}

at::Tensor exact_cost(const at::Tensor& kl, const at::Tensor& entropy, const at::Tensor& mask, CostWeights weights) {
  const at::Tensor cost = weights.kl * kl.detach();
  return within(weights.entropy == 0 ? cost : cost + weights.entropy * entropy.detach(), mask);
}

at::Tensor token_rewards(const at::Tensor& score, const at::Tensor& cost, const at::Tensor& mask, KlForm form) {
  check(score.dim() == 1 && score.size(0) == mask.size(0), "a score for every response");
  at::Tensor rewards = -within(cost, mask).detach();
  const at::Tensor nothing = at::zeros_like(rewards.narrow(1, 0, 1));
  if (form == KlForm::exact) rewards = at::cat({rewards.narrow(1, 1, rewards.size(1) - 1), nothing}, 1);
  // The last token: inside the mask, with none of it behind.
  const at::Tensor next = at::cat({mask.narrow(1, 1, mask.size(1) - 1), nothing.to(at::kBool)}, 1);
  const at::Tensor last = mask.logical_and(next.logical_not());
  return rewards + at::where(last, score.detach().unsqueeze(1).to(rewards.scalar_type()), 0.0);
}

Advantages gae(const at::Tensor& rewards, const at::Tensor& values, const at::Tensor& mask, double gamma, double lam) {
  const at::NoGradGuard no_grad;
  const at::Tensor r = within(rewards, mask), v = within(values, mask);
  const std::int64_t positions = r.size(1);
  std::vector<at::Tensor> columns(static_cast<std::size_t>(positions));
  at::Tensor running = at::zeros_like(r.select(1, 0)), next_value = running;
  for (std::int64_t t = positions - 1; t >= 0; --t) {
    const at::Tensor value = v.select(1, t);
    const at::Tensor delta = r.select(1, t) + gamma * next_value - value;
    running = at::where(mask.select(1, t), delta + gamma * lam * running, 0.0);
    next_value = value;
    columns[static_cast<std::size_t>(t)] = running;
  }
  const at::Tensor advantages = at::stack(columns, 1);
  return {.advantages = advantages, .returns = advantages + v};
}

at::Tensor reward_to_go(const at::Tensor& rewards, const at::Tensor& mask, double gamma) {
  return gae(rewards, at::zeros_like(rewards), mask, gamma, 1.0).advantages;
}

at::Tensor leave_one_out(const at::Tensor& values, std::int64_t samples_per_prompt) {
  check(samples_per_prompt >= 2 && values.size(0) % samples_per_prompt == 0, "whole prompts of two samples or more");
  const at::Tensor grouped = values.detach().reshape({values.size(0) / samples_per_prompt, samples_per_prompt, -1});
  const at::Tensor others = (grouped.sum(1, /*keepdim=*/true) - grouped) / (samples_per_prompt - 1);
  return (grouped - others).reshape(values.sizes());
}

Advantages sequence_advantages(const at::Tensor& score, const at::Tensor& cost, const at::Tensor& mask, KlForm form,
                               Baseline baseline, std::int64_t samples_per_prompt) {
  check(baseline == Baseline::rloo || baseline == Baseline::none, "a baseline without a critic");
  const at::Tensor to_come = reward_to_go(token_rewards(at::zeros_like(score), cost, mask, form), mask);
  const at::Tensor scores = score.detach().to(to_come.scalar_type());
  const at::Tensor returns = within(to_come + scores.unsqueeze(1), mask);
  if (baseline == Baseline::none) return {.advantages = returns, .returns = returns};
  const at::Tensor advantages =
      leave_one_out(scores, samples_per_prompt).unsqueeze(1) + leave_one_out(to_come, samples_per_prompt);
  return {.advantages = within(advantages, mask), .returns = returns};
}

CostWeights direct_weights(CostWeights weights, KlForm form, const Whitening& of_advantages) {
  if (form == KlForm::penalty) return {};
  return {.kl = weights.kl * of_advantages.factor, .entropy = weights.entropy * of_advantages.factor};
}

PolicyLoss policy_loss(const at::Tensor& logp, const at::Tensor& logp_behavior, const at::Tensor& advantages,
                       const at::Tensor& mask, double clip) {
  const at::Tensor log_ratio = within(logp - logp_behavior.detach(), mask);
  const at::Tensor a = within(advantages.detach(), mask);
  const at::Tensor ratio = log_ratio.exp();
  const at::Tensor plain = -a * ratio;
  const at::Tensor limited = -a * ratio.clamp(1.0 - clip, 1.0 + clip);
  const at::Tensor is_clipped = limited > plain;

  PolicyLoss result{.loss_sum = at::where(is_clipped, limited, plain).sum()};
  const at::NoGradGuard no_grad;
  result.gradient = at::where(is_clipped, 0.0, plain.detach());
  const at::Tensor d = log_ratio.detach();
  const auto [clipped, ratio_sum, largest, squares] =
      fetched<4>({is_clipped.sum(), within(ratio.detach(), mask).to(at::kDouble).sum(), d.abs().max(),
                  (d * d).to(at::kDouble).sum()});
  result.clipped = clipped;
  result.ratio_sum = ratio_sum;
  result.max_abs_log_ratio = largest;
  result.squared_log_ratio = squares;
  return result;
}

ValueLoss value_loss(const at::Tensor& values, const at::Tensor& old_values, const at::Tensor& returns,
                     const at::Tensor& mask, double value_clip) {
  const at::Tensor v = within(values, mask), old = within(old_values.detach(), mask),
                   r = within(returns.detach(), mask);
  const at::Tensor error = v - r;
  if (value_clip == 0) return {.loss_sum = 0.5 * (error * error).sum(), .gradient = error.detach()};
  const at::Tensor moved = old + (v - old).clamp(-value_clip, value_clip);
  const at::Tensor limited = moved - r;
  const at::Tensor is_clipped = limited * limited > error * error;
  const at::Tensor chosen = at::where(is_clipped, limited, error);
  ValueLoss result{.loss_sum = 0.5 * (chosen * chosen).sum()};
  const at::NoGradGuard no_grad;
  // Within the limit `limited` equals `error` up to rounding; beyond it the loss does not depend on the value.
  const at::Tensor beyond = (v - old).abs() > value_clip;
  result.gradient = at::where(is_clipped.logical_and(beyond), 0.0, error.detach());
  result.clipped = is_clipped.logical_and(beyond).sum().item<double>();
  return result;
}

double explained_variance(const Moments& residuals, const Moments& returns) {
  const double total = returns.variance();
  return total > 0 ? 1.0 - residuals.variance() / total : std::numeric_limits<double>::quiet_NaN();
}

double adapted_kl_coef(double kl_coef, double observed, double target, double horizon, std::int64_t num_responses) {
  check(target > 0 && horizon > 0, "a positive target and horizon");
  const double error = std::clamp(observed / target - 1.0, -0.2, 0.2);
  return kl_coef * (1.0 + error * static_cast<double>(num_responses) / horizon);
}

double initial_kl_coef(const PpoConfig& config) { return config.kl_coef.value_or(0.05); }

}  // namespace vbon
