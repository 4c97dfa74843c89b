// AdamW against its definition in double, clipping, and the learning-rate schedules in closed form.
#include "vbon/train/optimizer.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "vbon/base/error.hpp"
#include "vbon/base/rng.hpp"

namespace vbon {
namespace {

// Two tensors of sizes that leave gaps in the flat buffer.
struct Parameters {
  at::Tensor a = at::zeros({7}, at::kFloat), b = at::zeros({5, 4}, at::kFloat);
  FlatParameters flat;
  explicit Parameters(std::uint64_t seed) {
    fill(a, seed, 1.0);
    fill(b, seed + 1, 1.0);
    flat = FlatParameters({{"a", &a}, {"b", &b}});
  }
  static void fill(const at::Tensor& t, std::uint64_t seed, double scale) {
    const at::NoGradGuard no_grad;
    const RandomStream stream(seed, Purpose::initialise);
    float* values = t.mutable_data_ptr<float>();
    for (std::int64_t i = 0; i < t.numel(); ++i) values[i] = static_cast<float>(scale * stream.normal(i));
  }
  void draw_gradients(std::uint64_t seed, double scale) {
    fill(a.grad(), seed, scale);
    fill(b.grad(), seed + 1000, scale);
  }
};

std::vector<double> values_of(const at::Tensor& t) {
  const at::Tensor flat = t.detach().contiguous();
  return {flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel()};
}

// Loshchilov and Hutter's algorithm 2 on one number, in double.
struct Plain {
  double x, m = 0, v = 0;
  void step(double gradient, std::int64_t t, double rate, const OptimizerConfig& c) {
    m = c.beta1 * m + (1 - c.beta1) * gradient;
    v = c.beta2 * v + (1 - c.beta2) * gradient * gradient;
    const double corrected_m = m / (1 - std::pow(c.beta1, static_cast<double>(t)));
    const double corrected_v = v / (1 - std::pow(c.beta2, static_cast<double>(t)));
    x -= rate * (corrected_m / (std::sqrt(corrected_v) + c.eps) + c.weight_decay * x);
  }
};

class Follows : public testing::TestWithParam<OptimizerConfig> {};

TEST_P(Follows, the_definition_for_many_steps) {
  const OptimizerConfig& config = GetParam();
  Parameters p(3);
  AdamW optimizer(p.flat, config);
  std::vector<Plain> plain;
  for (const double x : values_of(p.flat.values())) plain.push_back({x});
  for (std::int64_t t = 1; t <= 25; ++t) {
    const double rate = 0.02 / static_cast<double>(t);
    p.draw_gradients(static_cast<std::uint64_t>(10 + t), t % 5 == 0 ? 3.0 : 0.1);
    const std::vector<double> gradients = values_of(p.flat.gradients());
    for (std::size_t i = 0; i < plain.size(); ++i) plain[i].step(gradients[i], t, rate, config);
    optimizer.step(rate);
    ASSERT_EQ(optimizer.num_steps(), t);
    const std::vector<double> x = values_of(p.flat.values()), m = values_of(optimizer.first_moment()),
                              v = values_of(optimizer.second_moment());
    for (std::size_t i = 0; i < plain.size(); ++i) {
      ASSERT_NEAR(x[i], plain[i].x, 1e-6 * (1 + std::abs(plain[i].x))) << "step " << t << ", number " << i;
      ASSERT_NEAR(m[i], plain[i].m, 1e-6);
      ASSERT_NEAR(v[i], plain[i].v, 1e-6 * (1 + plain[i].v));
    }
  }
  EXPECT_EQ(values_of(p.a)[3], values_of(p.flat.values())[3]);  // the model's tensors are what moved
  EXPECT_EQ(values_of(p.flat.values())[8], 0.0);                // the gap between them
}

INSTANTIATE_TEST_SUITE_P(AdamW, Follows,
                         testing::Values(OptimizerConfig{}, OptimizerConfig{.weight_decay = 0.3},
                                         OptimizerConfig{.eps = 1e-2, .weight_decay = 0},
                                         OptimizerConfig{.beta1 = 0, .beta2 = 0.999},
                                         OptimizerConfig{.beta1 = 0.5, .beta2 = 0}));

TEST(AdamW, decay_is_decoupled_from_the_gradient) {
  // Without a gradient a number shrinks by (1 - rate decay) a step, whatever its history.
  Parameters p(5);
  AdamW optimizer(p.flat, {.weight_decay = 0.1});
  const std::vector<double> before = values_of(p.flat.values());
  for (int t = 0; t < 3; ++t) optimizer.step(0.5);
  const std::vector<double> after = values_of(p.flat.values());
  for (std::size_t i = 0; i < before.size(); ++i) EXPECT_NEAR(after[i], before[i] * std::pow(1 - 0.05, 3), 1e-6);
}

TEST(AdamW, first_step_moves_by_the_rate_whatever_the_gradients_size) {
  for (const double scale : {1e-3, 1.0, 1e3}) {
    Parameters p(7);
    AdamW optimizer(p.flat, {.weight_decay = 0});
    p.draw_gradients(2, scale);
    const std::vector<double> before = values_of(p.b), g = values_of(p.b.grad());
    optimizer.step(0.01);
    const std::vector<double> after = values_of(p.b);
    for (std::size_t i = 0; i < before.size(); ++i) EXPECT_NEAR(after[i], before[i] - std::copysign(0.01, g[i]), 1e-5);
  }
}

TEST(AdamW, restored_state_continues_bit_by_bit_and_reset_forgets) {
  const auto steps = [](Parameters& p, AdamW& optimizer, std::uint64_t first, std::uint64_t last) {
    for (std::uint64_t t = first; t < last; ++t) {
      p.draw_gradients(t, 0.5);
      optimizer.step(0.01);
    }
  };
  Parameters whole(9), half(9);
  AdamW of_whole(whole.flat, {}), of_half(half.flat, {});
  steps(whole, of_whole, 0, 6);
  steps(half, of_half, 0, 3);
  AdamW resumed(half.flat, {});
  resumed.restore(of_half.first_moment().clone(), of_half.second_moment().clone(), of_half.num_steps());
  steps(half, resumed, 3, 6);
  EXPECT_EQ(values_of(half.flat.values()), values_of(whole.flat.values()));
  EXPECT_EQ(resumed.num_steps(), 6);
  EXPECT_THROW(resumed.restore(at::zeros({3}), at::zeros({3}), 1), InternalError);

  Parameters fresh(9), reset(9);
  AdamW of_fresh(fresh.flat, {}), of_reset(reset.flat, {});
  steps(reset, of_reset, 20, 24);
  {
    const at::NoGradGuard no_grad;
    reset.flat.values().copy_(fresh.flat.values());
  }
  of_reset.reset();
  EXPECT_EQ(of_reset.num_steps(), 0);
  steps(fresh, of_fresh, 30, 32);
  steps(reset, of_reset, 30, 32);
  EXPECT_EQ(values_of(reset.flat.values()), values_of(fresh.flat.values()));
}

TEST(Clip, scales_the_whole_gradient_to_the_norm) {
  for (const double limit : {0.0, 0.5, 1e9}) {
    Parameters p(1);
    AdamW optimizer(p.flat, {.clip_norm = limit});
    p.draw_gradients(4, 2.0);
    std::vector<double> before = values_of(p.a.grad());
    for (const double g : values_of(p.b.grad())) before.push_back(g);
    double squares = 0;
    for (const double g : before) squares += g * g;
    const double norm = norm_of(optimizer.squares());
    optimizer.clip(norm);
    EXPECT_NEAR(norm, std::sqrt(squares), 1e-6 * norm);
    const double factor = limit == 0.5 ? 0.5 / std::sqrt(squares) : 1.0;
    std::vector<double> after = values_of(p.a.grad());
    for (const double g : values_of(p.b.grad())) after.push_back(g);
    for (std::size_t i = 0; i < before.size(); ++i)
      EXPECT_NEAR(after[i], factor * before[i], 1e-6 * std::abs(before[i])) << limit;
  }
}

TEST(Clip, norms_beyond_float_and_not_finite_are_told) {
  Parameters p(1);
  AdamW optimizer(p.flat, {});
  p.a.grad().fill_(1e30);  // its square does not fit float32
  EXPECT_NEAR(norm_of(optimizer.squares()) / (1e30 * std::sqrt(7.0)), 1.0, 1e-6);
  p.a.grad().fill_(0.0);
  p.b.grad()[2][1] = std::nanf("");
  EXPECT_TRUE(std::isnan(norm_of(optimizer.squares())));
}

TEST(Schedule, closed_forms) {
  const OptimizerConfig linear{.learning_rate = 0.5, .schedule = Schedule::linear};
  for (std::int64_t u = 0; u < 10; ++u)
    EXPECT_NEAR(learning_rate(linear, u, 10), 0.5 * static_cast<double>(10 - u) / 10, 1e-15);
  const OptimizerConfig cosine{.learning_rate = 0.5, .schedule = Schedule::cosine};
  for (std::int64_t u = 0; u < 10; ++u)
    EXPECT_NEAR(learning_rate(cosine, u, 10), 0.25 * (1 + std::cos(std::numbers::pi * static_cast<double>(u) / 10)),
                1e-15);
  const OptimizerConfig constant{.learning_rate = 0.5, .schedule = Schedule::constant};
  EXPECT_EQ(learning_rate(constant, 9, 10), 0.5);
  for (const Schedule schedule : {Schedule::constant, Schedule::linear, Schedule::cosine}) {
    const OptimizerConfig warm{.learning_rate = 0.5, .schedule = schedule, .warmup = 4};
    for (std::int64_t u = 0; u < 4; ++u)
      EXPECT_NEAR(learning_rate(warm, u, 10), 0.5 * static_cast<double>(u + 1) / 5, 1e-15);
    EXPECT_EQ(learning_rate(warm, 4, 10), 0.5);  // the highest, once
    EXPECT_GT(learning_rate(warm, 9, 10), 0);    // the last update learns
    EXPECT_GT(learning_rate(warm, 2, 3), 0);     // fewer updates than the warm-up
    for (std::int64_t u = 4; u < 9; ++u) EXPECT_GE(learning_rate(warm, u, 10), learning_rate(warm, u + 1, 10));
  }
  EXPECT_NEAR(learning_rate({.learning_rate = 0.5, .schedule = Schedule::linear, .warmup = 4}, 7, 10), 0.25, 1e-15);
}

TEST(OptimizerConfig, every_bad_value_is_named) {
  EXPECT_TRUE(problems(OptimizerConfig{}).empty());
  const OptimizerConfig bad{.learning_rate = 0,
                            .beta1 = 1,
                            .beta2 = -0.1,
                            .eps = 0,
                            .weight_decay = -1,
                            .warmup = -2,
                            .clip_norm = std::nan("")};
  const std::vector<std::string> found = problems(bad, "sft.optimizer");
  ASSERT_EQ(found.size(), 7u);
  const char* keys[] = {"learning_rate", "beta1", "beta2", "eps", "weight_decay", "clip_norm", "warmup"};
  for (std::size_t i = 0; i < 7; ++i)
    EXPECT_THAT(found[i], testing::StartsWith(std::string("sft.optimizer.") + keys[i]));
}

}  // namespace
}  // namespace vbon
