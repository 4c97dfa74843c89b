// Packing against a construction token by token, hidden rows against whole forwards, micro-batches as a partition.
#include "vbon/train/sequences.hpp"

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "unit/train/toy_world.hpp"
#include "vbon/base/error.hpp"

namespace vbon {
namespace {

using test::at_index;

std::vector<std::int64_t> longs(const at::Tensor& t) {
  const at::Tensor flat = t.contiguous();
  return {flat.const_data_ptr<std::int64_t>(), flat.const_data_ptr<std::int64_t>() + flat.numel()};
}

struct World {
  PromptRows prompts = test::toy_prompts();
  RolloutBatch batch = test::toy_rollouts(prompts);
  std::vector<Sequence> sequences;
  World() {
    for (std::size_t i = 0; i < at_index(batch.num_sequences()); ++i)
      sequences.push_back(test::sequence_of(prompts, batch, i));
  }
};

// Sequence i as the packed rows tell it: its inputs, then its last token.
std::vector<std::int64_t> told(const PackedSequences& packed, std::size_t i) {
  const std::vector<std::int64_t> tokens = longs(packed.tokens), targets = longs(packed.targets);
  std::vector<std::int64_t> all;
  for (const std::int64_t row : packed.inputs[i]) all.push_back(tokens[at_index(row)]);
  all.push_back(targets[at_index(packed.offset[i + 1] - 1)]);
  return all;
}

TEST(Pack, every_response_token_is_predicted_by_the_row_before_it) {
  const World world;
  const PackedSequences packed = pack(world.sequences, at::kCPU);
  ASSERT_EQ(packed.count(), 9);
  EXPECT_EQ(packed.ragged.longest, 7 + 5 - 1);  // seven of prompt, five of response, the last never an input
  const std::vector<std::int64_t> rows = longs(packed.rows), targets = longs(packed.targets),
                                  positions = longs(packed.ragged.positions);
  for (std::size_t i = 0; i < 9; ++i) {
    const Sequence& s = world.sequences[i];
    std::vector<std::int64_t> all(s.prompt.begin(), s.prompt.end());
    all.insert(all.end(), s.response.begin(), s.response.end());
    EXPECT_EQ(told(packed, i), all);
    ASSERT_EQ(packed.offset[i + 1] - packed.offset[i], std::ssize(s.response));
    for (std::size_t t = 0; t + 1 < all.size(); ++t) EXPECT_EQ(positions[at_index(packed.inputs[i][t])], t);
    for (std::size_t t = 0; t < s.response.size(); ++t) {
      const std::size_t k = at_index(packed.offset[i]) + t;
      EXPECT_EQ(rows[k], packed.inputs[i][s.prompt.size() - 1 + t]);
      EXPECT_EQ(targets[k], s.response[t]);
    }
  }
}

TEST(Pack, a_prompt_has_its_rows_once) {
  const World world;
  std::set<std::vector<std::int32_t>> prompts;
  std::int64_t want = 0;
  for (const Sequence& s : world.sequences) {
    if (prompts.emplace(s.prompt.begin(), s.prompt.end()).second) want += std::ssize(s.prompt);
    want += std::ssize(s.response) - 1;
  }
  ASSERT_LT(prompts.size(), world.sequences.size());
  const PackedSequences packed = pack(world.sequences, at::kCPU);
  EXPECT_EQ(packed.ragged.num_rows(), want);
  EXPECT_EQ(packed.tokens.size(0), want);
}

TEST(Pack, one_prompt_token_and_one_response_token_is_one_row) {
  const std::vector<std::int32_t> prompt = {9}, response = {0};
  const PackedSequences packed = pack(std::vector<Sequence>{{prompt, response}}, at::kCPU);
  EXPECT_EQ(packed.ragged.longest, 1);
  EXPECT_EQ(longs(packed.tokens), std::vector<std::int64_t>{9});
  EXPECT_EQ(longs(packed.rows), std::vector<std::int64_t>{0});
  EXPECT_EQ(longs(packed.targets), std::vector<std::int64_t>{0});
}

TEST(Pack, nothing_and_empty_parts_are_refused) {
  const std::vector<std::int32_t> some = {1, 2};
  EXPECT_THROW(pack({}, at::kCPU), InternalError);
  EXPECT_THROW(pack(std::vector<Sequence>{{some, {}}}, at::kCPU), InternalError);
  EXPECT_THROW(pack(std::vector<Sequence>{{some, some}, {{}, some}}, at::kCPU), InternalError);
}

TEST(ResponseHidden, is_that_of_each_sequence_alone_with_and_without_trunk) {
  const at::NoGradGuard no_grad;
  const World world;
  for (const test::ToyKind kind : {test::ToyKind::llama, test::ToyKind::gpt2, test::ToyKind::neox}) {
    const CausalLm model = test::toy_lm({.kind = kind}, 8);
    const PackedSequences packed = pack(world.sequences, at::kCPU);
    for (const std::int64_t first : {0, 1, 3}) {
      const std::vector<at::Tensor> trunk = first > 0 ? run_trunk(model, packed, first) : std::vector<at::Tensor>{};
      const at::Tensor hidden = response_hidden(model, packed, first, trunk);
      ASSERT_EQ(hidden.size(0), packed.offset.back());
      for (std::int64_t i = 0; i < packed.count(); ++i) {
        const at::Tensor want = test::rows_that_predict(model, world.sequences[at_index(i)]);
        const at::Tensor got = hidden.narrow(0, packed.offset[at_index(i)], want.size(0));
        EXPECT_LE((got - want).abs().max().item<double>(), 4e-6 * want.abs().max().item<double>())
            << "first " << first << ", sequence " << i;
      }
    }
    EXPECT_THROW(response_hidden(model, packed, 2, {}), InternalError);
  }
}

TEST(ResponseHidden, gradients_of_shared_prompts_are_those_of_sequences_alone) {
  const World world;
  for (const test::ToyKind kind : {test::ToyKind::llama, test::ToyKind::gpt2, test::ToyKind::neox}) {
    const auto gradients = [&](bool together) {
      CausalLm model = test::toy_lm({.kind = kind}, 8);
      Block& block = model.blocks.front();
      for (at::Tensor* t : {&block.qkv.weight, &block.mlp_in.weight, &model.token_embedding})
        t->set_requires_grad(true);
      for (std::size_t i = 0; i < world.sequences.size(); i += together ? world.sequences.size() : 1) {
        const auto part = std::span(world.sequences).subspan(i, together ? world.sequences.size() : 1);
        const at::Tensor hidden = response_hidden(model, pack(part, at::kCPU), 0, {});
        hidden.square().sum().backward();
      }
      return std::vector<at::Tensor>{block.qkv.weight.grad(), block.mlp_in.weight.grad(), model.token_embedding.grad()};
    };
    const std::vector<at::Tensor> got = gradients(true), want = gradients(false);
    for (std::size_t k = 0; k < want.size(); ++k)
      EXPECT_LE((got[k] - want[k]).abs().max().item<double>(), 2e-5 * want[k].abs().max().item<double>()) << k;
  }
}

TEST(ResponseHidden, trunks_of_other_sequences_are_refused) {
  const at::NoGradGuard no_grad;
  const World world;
  const CausalLm model = test::toy_lm({}, 8);
  const PackedSequences packed = pack(world.sequences, at::kCPU);
  std::vector<at::Tensor> trunk = run_trunk(model, packed, 1);
  trunk.front() = trunk.front().narrow(0, 0, trunk.front().size(0) - 1);
  EXPECT_THROW(response_hidden(model, packed, 1, trunk), InternalError);
}

TEST(MicroBatches, partition_the_sequences_prompt_by_prompt) {
  const World world;
  const auto prompt_of = [&](std::int64_t i) {
    const auto tokens = world.sequences[at_index(i)].prompt;
    return std::vector<std::int32_t>(tokens.begin(), tokens.end());
  };
  for (const std::int64_t size : {1, 2, 4, 9, 100}) {
    const auto batches = micro_batches(world.sequences, size);
    EXPECT_EQ(std::ssize(batches), (9 + size - 1) / size);
    std::vector<std::int64_t> order;
    for (const auto& batch : batches) {
      EXPECT_LE(std::ssize(batch), size);
      order.insert(order.end(), batch.begin(), batch.end());
    }
    EXPECT_EQ(std::set(order.begin(), order.end()).size(), 9u);
    std::set<std::vector<std::int32_t>> left;  // prompts whose sequences are over
    for (std::size_t k = 1; k < order.size(); ++k) {
      if (prompt_of(order[k]) == prompt_of(order[k - 1])) {
        EXPECT_GE(world.sequences[at_index(order[k])].inputs(), world.sequences[at_index(order[k - 1])].inputs());
      } else {
        EXPECT_TRUE(left.insert(prompt_of(order[k - 1])).second);
        EXPECT_FALSE(left.contains(prompt_of(order[k])));
      }
    }
  }
  EXPECT_TRUE(micro_batches({}, 4).empty());
  EXPECT_THROW(micro_batches(world.sequences, 0), InternalError);
}

}  // namespace
}  // namespace vbon
