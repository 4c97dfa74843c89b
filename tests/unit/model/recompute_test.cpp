// Recomputed parts against the same network without: values and gradients to the bit, memory that is given back.
#include "vbon/model/recompute.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/tanh.h>
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "unit/model/toy_lm.hpp"
#include "vbon/base/error.hpp"
#include "vbon/model/hf_weights.hpp"

namespace vbon {
namespace {

at::Tensor tokens() {
  return (at::arange(30, at::kLong) * 7 + 3).remainder(test::toy_lm({}, 1).spec.vocab_size).view({5, 6});
}

// Gradients of every tensor of the model after a loss on its last hidden states.
std::vector<at::Tensor> gradients(CausalLm& model, double& loss) {
  std::vector<at::Tensor> leaves;
  for (const WeightEntry& entry : weight_table(model.spec)) {
    at::Tensor& t = entry.target(model);
    t.set_requires_grad(true);
    leaves.push_back(t);
  }
  const at::Tensor hidden = forward_hidden(model, tokens());
  const at::Tensor sum = (hidden * hidden.detach().cos()).sum() + hidden.pow(3).mean();
  loss = sum.item<double>();
  sum.backward();
  std::vector<at::Tensor> result;
  for (const at::Tensor& leaf : leaves)
    if (leaf.grad().defined()) result.push_back(leaf.grad().clone());
  return result;
}

TEST(Recompute, gradients_of_every_architecture_are_the_same_bits) {
  for (const test::ToyKind kind : {test::ToyKind::llama, test::ToyKind::gpt2, test::ToyKind::neox}) {
    CausalLm plain = test::toy_lm({.kind = kind}, 31), again = test::toy_lm({.kind = kind}, 31);
    again.recompute = true;
    double loss = 0, loss_again = 0;
    const std::vector<at::Tensor> want = gradients(plain, loss), got = gradients(again, loss_again);
    EXPECT_EQ(loss, loss_again);
    ASSERT_EQ(got.size(), want.size());
    ASSERT_GT(want.size(), 10u);
    for (std::size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(got[i].equal(want[i])) << i;
  }
}

TEST(Recompute, computes_when_asked_and_again_for_the_gradient) {
  int calls = 0;
  at::Tensor w = at::arange(1, 4, at::kFloat);
  w.set_requires_grad(true);
  const auto f = [&](const at::Tensor& x) {
    ++calls;
    return at::tanh(x * w);
  };
  const at::Tensor x = at::arange(3, at::kFloat);  // without a gradient of its own
  const at::Tensor y = recomputed(f, x);
  EXPECT_TRUE(y.requires_grad());
  EXPECT_EQ(calls, 1);
  (y * 2.0f).sum().backward();
  EXPECT_EQ(calls, 2);
  const at::Tensor want = 2.0f * x * (1.0f - y.detach().square());
  EXPECT_LE((w.grad() - want).abs().max().item<float>(), 1e-6f);
  {
    const at::NoGradGuard no_grad;
    EXPECT_FALSE(recomputed(f, x).requires_grad());
  }
  EXPECT_EQ(calls, 3);
}

TEST(Recompute, keeps_its_input_until_the_backward_pass_and_no_longer) {
  const auto held = std::make_shared<int>(1);
  at::Tensor x = at::arange(3, at::kFloat);
  x.set_requires_grad(true);
  const at::Tensor y = recomputed([held](const at::Tensor& in) { return in * 3.0f; }, x);
  EXPECT_EQ(held.use_count(), 2);
  y.sum().backward();
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_EQ(x.grad()[1].item<float>(), 3.0f);
}

}  // namespace
}  // namespace vbon
