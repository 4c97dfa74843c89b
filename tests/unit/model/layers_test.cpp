// The layers' loops (no gradients wanted) against ATen in double on the same numbers, also on strided pieces of a fused
// product; packed weights against plain products; the vocabulary head against autograd in double.
#include "vbon/model/layers.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <utility>
#include <vector>

#include "unit/model/toy_lm.hpp"
#include "vbon/base/error.hpp"
#include "vbon/model/packed_weights.hpp"
#include "vbon/model/products.hpp"
#include "vbon/model/vocab_head.hpp"

namespace vbon {
namespace {

at::Tensor normal(at::IntArrayRef shape, std::uint64_t seed, double deviation = 1.0) {
  at::Tensor t = at::empty(shape, at::kFloat).zero_();
  test::disturb(t, deviation, seed);
  return t;
}

double worst(const at::Tensor& got, const at::Tensor& want) {
  EXPECT_EQ(got.sizes(), want.sizes());
  return (got.detach().to(at::kDouble) - want.detach().to(at::kDouble)).abs().max().item<double>();
}

TEST(Layers, are_the_same_with_and_without_gradients) {
  const at::Tensor fused = normal({7, 96}, 1, 2.0), weight = normal({32}, 2);
  const at::Tensor strided = fused.narrow(1, 32, 32);  // rows that do not lie side by side
  for (const at::Tensor& x : {strided, at::Tensor(strided.contiguous())}) {
    const at::Tensor wide = x.to(at::kDouble);
    const at::Tensor want = wide * at::rsqrt(wide.square().mean(-1, true) + 1e-5) * weight.to(at::kDouble);
    const at::Tensor gate = wide.narrow(1, 0, 16), want_gated = at::silu(gate) * wide.narrow(1, 16, 16);
    for (const bool gradients : {true, false}) {
      const at::AutoGradMode mode(gradients);
      EXPECT_LE(worst(normalise(x, {weight, {}}, NormKind::rms, 1e-5), want), 5e-6) << gradients;
      EXPECT_LE(worst(gated(x, Activation::silu), want_gated), 5e-6) << gradients;
    }
  }
}

TEST(Layers, rotation_is_by_position_and_keeps_distances) {
  const RopeTable table = make_rope_table({.dims = 6, .theta = 100.0}, 40, at::kCPU);
  const at::Tensor fused = normal({5, 48}, 3);
  const at::Tensor x = fused.narrow(1, 8, 24).view({5, 3, 8});  // 3 heads of 8, of which 6 turn
  const std::vector<std::int64_t> positions = {0, 39, 7, 7, 1};
  const RopeRows rows = rope_rows(table, at::tensor(positions, at::kLong), at::kFloat);
  for (const bool gradients : {true, false}) {
    const at::AutoGradMode mode(gradients);
    const at::Tensor got = apply_rope(x, rows, 6).contiguous();
    for (std::int64_t i = 0; i < 5; ++i)
      for (std::int64_t h = 0; h < 3; ++h)
        for (std::int64_t j = 0; j < 8; ++j) {
          const auto number = [&](std::int64_t k) { return x[i][h][k].item<double>(); };
          double want = number(j);
          if (j < 6) {
            const double angle = static_cast<double>(positions[static_cast<std::size_t>(i)]) *
                                 std::pow(100.0, -2.0 * static_cast<double>(j % 3) / 6);
            want = j < 3 ? number(j) * std::cos(angle) - number(j + 3) * std::sin(angle)
                         : number(j) * std::cos(angle) + number(j - 3) * std::sin(angle);
          }
          EXPECT_NEAR(got[i][h][j].item<double>(), want, 2e-5) << gradients << ' ' << i << ' ' << h << ' ' << j;
        }
  }
}

TEST(GatherRows, takes_rows_and_adds_up_the_gradients_of_those_taken_twice) {
  at::Tensor x = normal({4, 2, 3}, 1);
  x.set_requires_grad(true);
  const std::vector<std::int64_t> rows = {2, 0, 2, 3, 2};
  const at::Tensor got = gather_rows(x, at::tensor(rows, at::kLong)), slopes = normal({5, 2, 3}, 2);
  (got * slopes).sum().backward();
  at::Tensor want = at::empty_like(x).zero_();
  for (std::int64_t i = 0; i < 5; ++i) {
    EXPECT_TRUE(got[i].equal(x[rows[static_cast<std::size_t>(i)]]));
    want[rows[static_cast<std::size_t>(i)]] += slopes[i];
  }
  EXPECT_LE(worst(x.grad(), want), 1e-6);
}

// By whichever library this CPU gets: of few numbers and many, turned rows, with and without a bias or a gradient.
TEST(Layers, products_equal_those_in_double_precision) {
  const auto in_double = [](const at::Tensor& x, const at::Tensor& weight) {
    return x.to(at::kDouble).matmul(weight.to(at::kDouble).t());
  };
  for (const auto& [out, in] : {std::pair<std::int64_t, std::int64_t>{7, 5}, {400, 160}}) {
    const at::Tensor weight = normal({out, in}, 1), bias = normal({out}, 2);
    for (const std::int64_t rows : {1, 3, 130}) {
      const at::Tensor x = normal({rows, in}, static_cast<std::uint64_t>(3 + rows)), turned = normal({in, rows}, 4).t();
      const at::Tensor leaf = x.clone().set_requires_grad(true);
      const at::Tensor differentiable = product(leaf, weight, bias);
      ASSERT_TRUE(differentiable.requires_grad());
      differentiable.sum().backward();
      EXPECT_LE(worst(leaf.grad(), weight.to(at::kDouble).sum(0).expand({rows, in})), 1e-4);
      const at::NoGradGuard no_grad;
      const at::Tensor want = in_double(x, weight);
      EXPECT_LE(worst(product(x, weight, {}), want), 1e-4) << rows << " rows";
      EXPECT_LE(worst(product(x, weight, bias), want + bias.to(at::kDouble)), 1e-4) << rows << " rows";
      EXPECT_LE(worst(differentiable, want + bias.to(at::kDouble)), 1e-4) << rows << " rows";
      EXPECT_LE(worst(product(turned, weight, {}), in_double(turned, weight)), 1e-4) << rows << " rows";
    }
    const at::NoGradGuard no_grad;
    EXPECT_EQ(product(normal({0, in}, 5), weight, bias).sizes(), (std::vector<std::int64_t>{0, out}));
  }
}

TEST(Packed, weights_multiply_as_plain_ones_do_and_follow_training) {
  Linear trained{normal({400, 160}, 1), normal({400}, 2)}, frozen{normal({256, 160}, 3), {}};
  trained.weight.set_requires_grad(true);
  trained.bias.set_requires_grad(true);
  PackedWeights packed;
  const at::NoGradGuard no_grad;
  for (int update = 0; update < 3; ++update) {
    packed.forget_trained();
    for (const std::int64_t rows : {8, 5, 9, 1, 600}) {
      const at::Tensor x = normal({rows, 160}, static_cast<std::uint64_t>(10 + rows + update));
      for (const Linear* layer : {&trained, &frozen}) {
        at::Tensor want = x.to(at::kDouble).matmul(layer->weight.to(at::kDouble).t());
        if (layer->bias.defined()) want = want + layer->bias.to(at::kDouble);
        EXPECT_LE(worst(packed.multiply(x, *layer), want), 1e-4) << rows << " rows, update " << update;
      }
    }
    test::disturb(trained.weight.detach(), 0.5, static_cast<std::uint64_t>(20 + update));
    test::disturb(trained.bias.detach(), 0.5, static_cast<std::uint64_t>(30 + update));
  }
}

TEST(Packed, a_row_does_not_depend_on_the_rows_beside_it) {
  const Linear layer{normal({400, 450}, 1), normal({400}, 2)};
  PackedWeights packed;
  const at::NoGradGuard no_grad;
  const at::Tensor x = normal({37, 450}, 3), all = packed.multiply(x, layer);
  for (const std::int64_t first : {0, 3, 16, 36})
    for (const std::int64_t rows : {1, 7, 8, 20}) {
      if (first + rows > 37) continue;
      EXPECT_TRUE(packed.multiply(x.narrow(0, first, rows), layer).equal(all.narrow(0, first, rows)))
          << first << " " << rows;
    }
  const at::Tensor columns = normal({450, 37}, 4).t();  // rows that are not dense
  EXPECT_LE(worst(packed.multiply(columns, layer),
                  columns.to(at::kDouble).matmul(layer.weight.to(at::kDouble).t()) + layer.bias.to(at::kDouble)),
            2e-4);
}

struct Combination {
  double logp, kl, entropy;
};

TEST(VocabHead, values_and_gradients_are_autograds_in_double) {
  const at::Tensor tokens = at::tensor({3, 0, 600, 41, 3}, at::kLong), reference = normal({5, 601}, 3, 2.0);
  const at::Tensor weight = at::tensor({0.5, -1.0, 2.0, 0.0, 1.0}, at::kFloat);
  for (const bool with_reference : {true, false})
    for (const Combination c :
         {Combination{1, 0, 0}, Combination{0, 1, 0}, Combination{0, 0, 1}, Combination{-0.7, 0.4, 1.5}}) {
      if (!with_reference && c.kl != 0) continue;
      at::Tensor hidden = normal({5, 12}, 1), head = normal({601, 12}, 2);
      at::Tensor hidden_wide = hidden.to(at::kDouble), head_wide = head.to(at::kDouble);
      for (at::Tensor* t : {&hidden, &head, &hidden_wide, &head_wide}) t->set_requires_grad(true);
      const at::Tensor z_ref = with_reference ? reference : at::Tensor();
      const TokenStatistics got = token_statistics(hidden, head, tokens, 0.7, z_ref);
      const TokenStatistics want = token_statistics_by_tensors(hidden_wide, head_wide, tokens, 0.7,
                                                               with_reference ? reference.to(at::kDouble) : z_ref);
      EXPECT_LE(worst(got.logp, want.logp), 2e-5);
      EXPECT_LE(worst(got.entropy, want.entropy), 2e-5);
      EXPECT_EQ(got.kl.defined(), with_reference);
      if (with_reference) {
        EXPECT_LE(worst(got.kl, want.kl), 2e-5);
        EXPECT_LE(worst(got.logp_ref, want.logp_ref), 2e-5);
        EXPECT_FALSE(got.logp_ref.requires_grad());
      }
      const auto loss = [&](const TokenStatistics& s, const at::Tensor& w) {
        at::Tensor sum = (s.logp * w).sum() * c.logp + (s.entropy * w).sum() * c.entropy;
        if (with_reference) sum = sum + (s.kl * w).sum() * c.kl;
        return sum;
      };
      const at::Tensor of_got = loss(got, weight);
      of_got.backward({}, /*keep_graph=*/true);
      loss(want, weight.to(at::kDouble)).backward();
      EXPECT_LE(worst(hidden.grad(), hidden_wide.grad()),
                1e-5 * std::max(1.0, hidden_wide.grad().abs().max().item<double>()));
      EXPECT_LE(worst(head.grad(), head_wide.grad()),
                1e-5 * std::max(1.0, head_wide.grad().abs().max().item<double>()));
      EXPECT_THROW(of_got.backward(), InternalError);  // its logits have become the gradient
    }
}

}  // namespace
}  // namespace vbon
