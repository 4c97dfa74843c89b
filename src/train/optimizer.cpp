#include "vbon/train/optimizer.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros.h>

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

double norm_of(std::span<const double> squares) {
  double sum = 0;
  for (const double square : squares) sum += square;
  return std::sqrt(sum);
}

AdamW::AdamW(FlatParameters& parameters, const OptimizerConfig& config, std::vector<Range> slices)
    : parameters_(&parameters), config_(config), slices_(std::move(slices)) {
  if (slices_.empty()) slices_ = {{0, parameters.padded_values().numel()}};
  std::int64_t size = 0;
  for (const Range& slice : slices_) {
    check(slice.begin % kFlatBlock == 0 && slice.size % kFlatBlock == 0, "slices of whole blocks");
    size += slice.size;
  }
  const auto options = at::TensorOptions(at::kFloat).device(parameters.values().device());
  first_ = at::zeros({size}, options);
  second_ = at::zeros({size}, options);
  steps_ = at::zeros({}, options);
}

std::vector<at::Tensor> AdamW::cut(const at::Tensor& padded) const {
  std::vector<at::Tensor> views;
  for (const Range& slice : slices_) views.push_back(padded.narrow(0, slice.begin, slice.size));
  return views;
}

std::vector<double> AdamW::squares() const {
  std::vector<double> all;
  for (const at::Tensor& slice : cut(parameters_->padded_gradients())) {
    const at::Tensor norms =
        at::linalg_vector_norm(slice.view({-1, kFlatBlock}), 2, {{1}}, false, at::kDouble).cpu().contiguous();
    for (std::int64_t i = 0; i < norms.numel(); ++i) {
      const double norm = norms.const_data_ptr<double>()[i];
      all.push_back(norm * norm);
    }
  }
  return all;
}

void AdamW::clip(double norm) {
  if (config_.clip_norm <= 0 || norm <= config_.clip_norm) return;
  for (at::Tensor& slice : cut(parameters_->padded_gradients())) slice.mul_(config_.clip_norm / norm);
}

void AdamW::step(double rate) {
  const at::NoGradGuard no_grad;
  steps_.add_(1);
  std::vector<at::Tensor> first, second;
  std::int64_t begin = 0;
  for (const Range& slice : slices_) {
    first.push_back(first_.narrow(0, begin, slice.size));
    second.push_back(second_.narrow(0, begin, slice.size));
    begin += slice.size;
  }
  at::_fused_adamw_(cut(parameters_->padded_values()), cut(parameters_->padded_gradients()), first, second, {},
                    std::vector<at::Tensor>(slices_.size(), steps_), rate, config_.beta1, config_.beta2,
                    config_.weight_decay, config_.eps, /*amsgrad=*/false, /*maximize=*/false);
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
