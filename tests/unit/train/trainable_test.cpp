// Choices of layers and the flat buffers: what is trained, what is shared with the reference, what is a view of what.
#include "vbon/train/trainable.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "unit/model/toy_lm.hpp"
#include "vbon/base/error.hpp"
#include "vbon/train/critic.hpp"

namespace vbon {
namespace {

using test::ToyKind;
using test::ToyShape;

TEST(TrainedLayers, parses_what_it_prints_and_nothing_else) {
  for (const char* text : {"all", "last 1", "last 12"}) EXPECT_EQ(TrainedLayers::parse(text).text(), text);
  EXPECT_EQ(TrainedLayers::parse("  last   3 ").last, 3);
  for (const char* text :
       {"", "last", "last 0", "last -1", "last two", "last 2 layers", "first 2", "ALL", "last 99999999999999999999"})
    EXPECT_THROW(TrainedLayers::parse(text), UserError) << text;
}

// Every tensor of a model, tied ones once, by the place of its numbers.
std::map<const void*, std::string> tensors_of(const CausalLm& model) {
  std::map<const void*, std::string> all;
  CausalLm view = model;
  for (const WeightEntry& entry : weight_table(model.spec)) all.emplace(entry.target(view).data_ptr(), entry.name);
  return all;
}

std::set<std::string> names_of(const std::vector<NamedParameter>& parameters) {
  std::set<std::string> names;
  for (const NamedParameter& p : parameters) EXPECT_TRUE(names.insert(p.name).second) << p.name << " twice";
  return names;
}

struct Choice {
  ToyShape shape;
  std::int64_t last;
  // Of 3 blocks, by names in the file.
  std::set<std::string> tops;  // beside the blocks
};

TEST(Policy, trains_the_chosen_blocks_the_norm_and_a_head_of_its_own) {
  const std::vector<Choice> choices = {
      {{.kind = ToyKind::llama, .tied = true}, 0, {"model.embed_tokens.weight", "model.norm.weight"}},
      {{.kind = ToyKind::llama, .tied = true}, 2, {"model.norm.weight"}},
      {{.kind = ToyKind::llama, .tied = false},
       0,
       {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}},
      {{.kind = ToyKind::llama, .tied = false}, 1, {"model.norm.weight", "lm_head.weight"}},
      {{.kind = ToyKind::llama, .tied = false}, 3, {"model.norm.weight", "lm_head.weight"}},
      {{.kind = ToyKind::gpt2}, 1, {"transformer.ln_f.weight", "transformer.ln_f.bias"}},
      {{.kind = ToyKind::neox},
       1,
       {"gpt_neox.final_layer_norm.weight", "gpt_neox.final_layer_norm.bias", "embed_out.weight"}},
  };
  for (const Choice& choice : choices) {
    const CausalLm reference = test::toy_lm(choice.shape, 3);
    Policy policy = make_policy(reference, {choice.last});
    EXPECT_EQ(policy.first_trained_block, choice.last == 0 ? 0 : 3 - choice.last);
    EXPECT_EQ(policy.has_trunk(), choice.last == 1 || choice.last == 2);
    std::set<std::string> tops;
    std::map<std::int64_t, int> of_block;
    for (const std::string& name : names_of(trained_parameters(policy))) {
      const auto digit = std::find_if(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
      if (digit != name.end()) ++of_block[*digit - '0'];
      else tops.insert(name);
    }
    EXPECT_EQ(tops, choice.tops) << "last " << choice.last;
    // Each block has the same tensors: qkv, output, two of the MLP; norms; biases where the architecture has them.
    const int each = choice.shape.kind == ToyKind::llama ? 6 : 12;
    for (std::int64_t block = 0; block < 3; ++block)
      EXPECT_EQ(of_block[block], block >= policy.first_trained_block ? each : 0) << "block " << block;
  }
}

TEST(Policy, shares_what_is_not_trained_and_copies_what_is) {
  for (const ToyShape shape : {ToyShape{.tied = true}, ToyShape{.tied = false}, ToyShape{.kind = ToyKind::gpt2}}) {
    const CausalLm reference = test::toy_lm(shape, 3);
    Policy policy = make_policy(reference, {1});
    const std::vector<NamedParameter> trained = trained_parameters(policy);
    FlatParameters flat(trained);
    tie_again(policy.model);
    const auto of_reference = tensors_of(reference), of_policy = tensors_of(policy.model);
    std::size_t own = 0;
    for (const auto& [place, name] : of_policy) own += of_reference.contains(place) ? 0u : 1u;
    EXPECT_EQ(own, trained.size());
    EXPECT_EQ(of_policy.size(), of_reference.size());
    EXPECT_EQ(policy.model.head.data_ptr() == policy.model.token_embedding.data_ptr(),
              shape.tied || shape.kind == ToyKind::gpt2);
    // It starts as the reference, and changes alone.
    const at::Tensor tokens = at::tensor({3, 1, 4}, at::kLong).unsqueeze(0);
    const at::NoGradGuard no_grad;
    const at::Tensor before = forward_logits(reference, tokens);
    EXPECT_TRUE(forward_logits(policy.model, tokens).equal(before));
    flat.values().mul_(1.1);
    EXPECT_FALSE(forward_logits(policy.model, tokens).equal(before));
    EXPECT_TRUE(forward_logits(reference, tokens).equal(before));
  }
  EXPECT_THROW(make_policy(test::toy_lm({}, 3), {4}), UserError);
}

TEST(DifferingLayers, begin_at_the_first_tensor_that_differs) {
  for (const ToyShape shape : {ToyShape{.tied = true}, ToyShape{.tied = false}, ToyShape{.kind = ToyKind::gpt2},
                               ToyShape{.kind = ToyKind::neox}}) {
    const CausalLm reference = test::toy_lm(shape, 3);
    EXPECT_EQ(differing_layers(reference, test::toy_lm(shape, 3)).last, 1);  // nothing differs: the last, at least
    std::set<std::int64_t> answers;
    for (const WeightEntry& entry : weight_table(reference.spec)) {
      CausalLm other = test::toy_lm(shape, 3);
      at::Tensor rows = entry.target(other).narrow(0, entry.first_row, 1);
      rows.view({-1})[0] += 1e-3;  // one number
      const auto digit =
          std::find_if(entry.name.begin(), entry.name.end(), [](char c) { return c >= '0' && c <= '9'; });
      const bool embeds =
          &entry.target(other) == &other.token_embedding || &entry.target(other) == &other.position_embedding;
      const std::int64_t block = digit != entry.name.end() ? *digit - '0' : 2;  // the top belongs to the last block
      const std::int64_t want = embeds || block == 0 ? 0 : 3 - block;
      EXPECT_EQ(differing_layers(reference, other).last, want) << entry.name;
      answers.insert(want);
    }
    EXPECT_EQ(answers, (std::set<std::int64_t>{0, 1, 2}));
    ToyShape wider = shape;
    wider.vocab = 14;
    EXPECT_EQ(differing_layers(reference, test::toy_lm(wider, 3)).last, 0);
    wider.vocab = 13;
    wider.layers = 2;
    EXPECT_EQ(differing_layers(reference, test::toy_lm(wider, 3)).last, 0);
  }
}

TEST(FlatParameters, tensors_and_gradients_are_views_in_order) {
  for (const ToyShape shape : {ToyShape{.tied = true}, ToyShape{.tied = false}, ToyShape{.kind = ToyKind::gpt2},
                               ToyShape{.kind = ToyKind::neox}}) {
    const CausalLm reference = test::toy_lm(shape, 3);
    Policy policy = make_policy(reference, {});
    const std::vector<NamedParameter> trained = trained_parameters(policy);
    std::vector<at::Tensor> values_before;
    for (const NamedParameter& p : trained) values_before.push_back(p.tensor->clone());
    FlatParameters flat(trained);
    tie_again(policy.model);
    std::int64_t end = 0, numbers = 0;
    for (std::size_t i = 0; i < trained.size(); ++i) {
      const at::Tensor& t = *trained[i].tensor;
      EXPECT_TRUE(t.equal(values_before[i])) << trained[i].name;
      EXPECT_TRUE(t.is_leaf() && t.requires_grad());
      const std::int64_t offset = t.const_data_ptr<float>() - flat.values().const_data_ptr<float>();
      EXPECT_EQ(offset, flat.size_of_first(i));
      EXPECT_EQ(t.grad().const_data_ptr<float>() - flat.gradients().const_data_ptr<float>(), offset);
      EXPECT_EQ(t.grad().sizes(), t.sizes());
      EXPECT_EQ(offset % 16, 0);  // 64 bytes
      EXPECT_GE(offset, end);     // pieces do not overlap
      EXPECT_LT(offset - end, 16);
      end = offset + t.numel();
      numbers += t.numel();
    }
    EXPECT_GE(flat.size(), end);
    EXPECT_EQ(flat.size(), flat.size_of_first(trained.size()));
    EXPECT_EQ(numbers, count_parameters(reference.spec));
    // What goes into one side is seen on the other.
    flat.values().zero_();
    EXPECT_EQ(policy.model.blocks[1].mlp_out.weight.abs().sum().item<float>(), 0);
    EXPECT_EQ(policy.model.head.abs().sum().item<float>(), 0);
    trained.back().tensor->grad().fill_(2.0);
    EXPECT_EQ(flat.gradients().sum().item<float>(), 2.0f * static_cast<float>(trained.back().tensor->numel()));
    flat.zero_gradients();
    EXPECT_EQ(trained.back().tensor->grad().abs().sum().item<float>(), 0);
  }
}

// Gradients of a tied embedding come from both its uses and land in the flat buffer: finite differences.
TEST(FlatParameters, backward_fills_the_flat_buffer_also_for_tied_weights) {
  for (const bool tied : {true, false}) {
    const CausalLm reference = test::toy_lm({.layers = 1, .tied = tied}, 3);
    Policy policy = make_policy(reference, {});
    FlatParameters flat(trained_parameters(policy));
    tie_again(policy.model);
    const at::Tensor tokens = at::tensor({3, 1, 4, 1}, at::kLong).unsqueeze(0);
    const auto loss = [&] { return forward_logits(policy.model, tokens).square().mean(); };
    loss().backward();
    loss().backward();  // accumulates in place
    EXPECT_EQ(policy.model.token_embedding.grad().data_ptr(), flat.gradients().data_ptr()) << "the buffer was replaced";
    const at::NoGradGuard no_grad;
    for (const std::int64_t number :
         {24 * 1 + 5, 24 * 3 + 2, 24 * 9 + 7}) {  // tokens 1 and 3 occur, 9 only in the head
      const float value = flat.values()[number].item<float>(), h = 1e-2f;
      flat.values()[number] = value + h;
      const double above = loss().item<double>();
      flat.values()[number] = value - h;
      const double below = loss().item<double>();
      flat.values()[number] = value;
      const double want = (above - below) / (2.0 * h);
      EXPECT_NEAR(flat.gradients()[number].item<double>(), 2 * want, 2e-3 * std::max(0.05, std::abs(want)))
          << "tied " << tied << ", " << number;
      const bool used = tied || number < 24 * 9;
      EXPECT_EQ(flat.gradients()[number].item<float>() != 0, used);
    }
  }
}

TEST(Critic, head_starts_at_zero_and_a_model_of_its_own_leaves_its_language_head_out) {
  for (const bool tied : {true, false}) {
    const CausalLm reference = test::toy_lm({.tied = tied}, 3);
    Critic none = make_critic(Baseline::rloo, reference, {});
    EXPECT_FALSE(none.exists());
    EXPECT_TRUE(trained_parameters(none).empty());
    Critic head = make_critic(Baseline::critic_head, reference, {2});
    EXPECT_EQ(names_of(trained_parameters(head)), (std::set<std::string>{"critic.head.weight", "critic.head.bias"}));
    EXPECT_EQ(head.head.weight.abs().sum().item<float>(), 0);
    Critic whole = make_critic(Baseline::critic_model, reference, {});
    const std::set<std::string> names = names_of(trained_parameters(whole));
    EXPECT_TRUE(names.contains("critic.model.embed_tokens.weight"));
    EXPECT_FALSE(names.contains("critic.lm_head.weight"));
    EXPECT_TRUE(names.contains("critic.model.layers.0.self_attn.q_proj.weight"));
    Critic top = make_critic(Baseline::critic_model, reference, {1});
    EXPECT_EQ(trained_parameters(top).size(), 2u + 6u + 1u);  // head, one block, final norm
  }
}

TEST(FlatParameters, tensors_of_low_precision_have_masters_and_float_gradients) {
  at::Tensor low = at::zeros({5, 4}, at::kBFloat16), high = at::zeros({3}, at::kFloat);
  low.fill_(1.0);
  high.fill_(0.5);
  FlatParameters flat({{"low", &low}, {"high", &high}});
  EXPECT_TRUE(flat.has_masters());
  EXPECT_EQ(low.scalar_type(), at::kBFloat16);
  EXPECT_EQ(flat.values().scalar_type(), at::kFloat);
  // 1 + 2^-9 is no bfloat16: a thousand such gradients do not get lost one by one.
  std::vector<std::size_t> heard;
  flat.listen([&](std::size_t piece) { heard.push_back(piece); });
  for (int micro = 0; micro < 4; ++micro) (low.sum() * (micro == 0 ? 1.0 : 0.00390625) + high.sum() * 2.0).backward();
  EXPECT_EQ(heard.size(), 8u);
  EXPECT_EQ(flat.gradients()[0].item<float>(), 1.0f + 3 * 0.00390625f);
  EXPECT_EQ(flat.gradients()[flat.offset_of(1)].item<float>(), 8.0f);
  EXPECT_FALSE(low.grad().defined());
  {
    const at::NoGradGuard no_grad;
    flat.values().add_(0.001);  // too little for the tensor
    flat.refresh();
    EXPECT_EQ(low[0][0].item<float>(), 1.0f);
    EXPECT_EQ(high[0].item<float>(), 0.501f);
    for (int i = 0; i < 3; ++i) flat.values().add_(0.001);  // but not for its master
    flat.refresh();
    EXPECT_EQ(low[4][3].item<float>(), 1.0f + 0.0078125f * 1);
  }
}

}  // namespace
}  // namespace vbon
