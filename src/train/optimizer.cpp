#include "vbon/train/optimizer.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "vbon/base/error.hpp"

namespace vbon {

std::span<const std::pair<Schedule, std::string_view>> enum_names(Schedule) {
  static constexpr std::array<std::pair<Schedule, std::string_view>, 3> kNames = {
      {{Schedule::constant, "constant"}, {Schedule::linear, "linear"}, {Schedule::cosine, "cosine"}}};
  return kNames;
}

std::vector<std::string> problems(const OptimizerConfig& c, std::string_view section) {
  std::vector<std::string> found;
  const auto object = [&](bool bad, std::string_view key, double value, std::string_view demand) {
    if (bad) found.push_back(fmt::format("{}.{} is {}; it must be {}", section, key, value, demand));
  };
  object(!(c.learning_rate > 0 && c.learning_rate < 10), "learning_rate", c.learning_rate, "in (0, 10)");
  object(!(c.beta1 >= 0 && c.beta1 < 1), "beta1", c.beta1, "in [0, 1)");
  object(!(c.beta2 >= 0 && c.beta2 < 1), "beta2", c.beta2, "in [0, 1)");
  object(!(c.eps > 0), "eps", c.eps, "> 0");
  object(!(c.weight_decay >= 0), "weight_decay", c.weight_decay, ">= 0");
  object(!(c.clip_norm >= 0), "clip_norm", c.clip_norm, ">= 0");
  object(c.warmup < 0, "warmup", static_cast<double>(c.warmup), ">= 0");
  return found;
}

double learning_rate(const OptimizerConfig& c, std::int64_t update, std::int64_t total) {
  if (update < c.warmup) return c.learning_rate * static_cast<double>(update + 1) / static_cast<double>(c.warmup + 1);
  if (c.schedule == Schedule::constant || total <= c.warmup) return c.learning_rate;
  // Falls from the full rate at the end of the warm-up towards 0 one past the last update: no update is wasted at 0.
  const double done = static_cast<double>(update - c.warmup) / static_cast<double>(total - c.warmup);
  const double left = std::clamp(1.0 - done, 0.0, 1.0);
  return c.learning_rate *
         (c.schedule == Schedule::linear ? left : 0.5 * (1.0 + std::cos(std::numbers::pi * (1.0 - left))));
}

AdamW::AdamW(FlatParameters& parameters, const OptimizerConfig& config)
    : parameters_(&parameters), config_(config), first_(at::zeros_like(parameters.values())),
      second_(at::zeros_like(parameters.values())),
      steps_(at::full({}, 0.0, at::TensorOptions(at::kFloat).device(parameters.values().device()))) {}

double AdamW::clip() {
  const double norm = at::linalg_vector_norm(parameters_->gradients(), 2, {}, false, at::kDouble).item<double>();
  if (config_.clip_norm > 0 && norm > config_.clip_norm) parameters_->gradients().mul_(config_.clip_norm / norm);
  return norm;
}

void AdamW::step(double rate) {
  const at::NoGradGuard no_grad;
  steps_.add_(1);
  at::_fused_adamw_({parameters_->values()}, {parameters_->gradients()}, {first_}, {second_}, {}, {steps_}, rate,
                    config_.beta1, config_.beta2, config_.weight_decay, config_.eps, /*amsgrad=*/false,
                    /*maximize=*/false);
}

std::int64_t AdamW::num_steps() const { return static_cast<std::int64_t>(steps_.item<float>()); }

void AdamW::reset() {
  first_.zero_();
  second_.zero_();
  steps_.zero_();
}

void AdamW::restore(const at::Tensor& first, const at::Tensor& second, std::int64_t num_steps) {
  check(first.sizes() == first_.sizes() && second.sizes() == second_.sizes(), "optimiser state has another size");
  first_.copy_(first);
  second_.copy_(second);
  steps_.fill_(static_cast<double>(num_steps));
}

}  // namespace vbon
