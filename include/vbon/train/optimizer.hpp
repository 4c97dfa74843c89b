// AdamW on one flat buffer (a single fused pass), its learning-rate schedule and the clipping of the gradient's norm.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vbon/base/fields.hpp"
#include "vbon/train/trainable.hpp"

namespace vbon {

enum class Schedule { constant, linear, cosine };
std::span<const std::pair<Schedule, std::string_view>> enum_names(Schedule);

struct OptimizerConfig {
  double learning_rate = 1e-5;
  double beta1 = 0.9, beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 1e-6;
  Schedule schedule = Schedule::linear;
  std::int64_t warmup = 0;
  double clip_norm = 1.0;

  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.learning_rate, {.name = "learning_rate", .help = "highest learning rate, after the warm-up; > 0"});
    v(c.beta1, {.name = "beta1", .help = "AdamW's memory of the gradient, in [0, 1)"});
    v(c.beta2, {.name = "beta2", .help = "AdamW's memory of its square, in [0, 1)"});
    v(c.eps, {.name = "eps", .help = "AdamW's epsilon, > 0"});
    v(c.weight_decay, {.name = "weight_decay", .help = "decoupled weight decay on all trained parameters, >= 0"});
    v(c.schedule,
      {.name = "schedule", .help = "after the warm-up: constant, linear or cosine to 0 at the last update"});
    v(c.warmup, {.name = "warmup", .help = "updates over which the rate rises linearly from 0", .unit = "updates"});
    v(c.clip_norm, {.name = "clip_norm", .help = "the gradient is scaled down to this norm; 0: never"});
  }
};

// `section` is the key that messages begin with.
std::vector<std::string> problems(const OptimizerConfig& config, std::string_view section = "optimizer");

// Of update `update` (from 0) out of `total`.
double learning_rate(const OptimizerConfig& config, std::int64_t update, std::int64_t total);

// Floats [begin, begin + size) of a flat buffer.
struct Range {
  std::int64_t begin = 0, size = 0;
};

// Square root of a sum, in order. Squares are summed by blocks of the flat buffer: the norm is the same however the
// blocks are dealt out.
double norm_of(std::span<const double> squares);

// Keeps the state of some slices of the padded buffer: of all of it where one learner has it all.
class AdamW {
 public:
  AdamW() = default;
  // Slices are whole blocks (kFlatBlock); none: all of the buffer.
  AdamW(FlatParameters& parameters, const OptimizerConfig& config, std::vector<Range> slices = {});

  // Sums of squares of the slices' gradients, one a block, in order.
  std::vector<double> squares() const;
  // Scales the slices' gradients so that `norm`, of the whole gradient, becomes the configuration's.
  void clip(double norm);
  void step(double learning_rate);

  std::int64_t num_steps() const;
  // exp_avg and exp_avg_sq of the slices, one after the other, float32.
  const at::Tensor& first_moment() const { return first_; }
  const at::Tensor& second_moment() const { return second_; }
  void reset();  // forgets its moments, as if no step had been made
  void restore(const at::Tensor& first, const at::Tensor& second, std::int64_t num_steps);

 private:
  std::vector<at::Tensor> cut(const at::Tensor& padded) const;  // views of the slices

  FlatParameters* parameters_ = nullptr;
  OptimizerConfig config_;
  std::vector<Range> slices_;
  at::Tensor first_, second_, steps_;
};

}  // namespace vbon
