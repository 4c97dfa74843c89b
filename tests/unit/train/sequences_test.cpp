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

TEST(Pack, every_response_token_is_predicted_by_the_row_before_it) {
  const World world;
  const PackedSequences packed = pack(world.sequences, at::kCPU);
  const std::vector<std::int64_t> tokens = longs(packed.tokens), rows = longs(packed.rows),
                                  targets = longs(packed.targets);
  ASSERT_EQ(packed.count, 9);
  ASSERT_EQ(packed.length, 7 + 5 - 1);  // the longest: seven of prompt, five of response, the last never an input
  ASSERT_EQ(std::ssize(tokens), 9 * 11);
  std::vector<std::int64_t> want_rows, want_targets, want_tokens(9 * 11, 0);
  for (std::int64_t i = 0; i < 9; ++i) {
    const Sequence& s = world.sequences[at_index(i)];
    std::vector<std::int32_t> all(s.prompt.begin(), s.prompt.end());
    all.insert(all.end(), s.response.begin(), s.response.end());
    EXPECT_EQ(packed.offset[at_index(i)], std::ssize(want_rows));
    for (std::int64_t t = 0; t + 1 < std::ssize(all); ++t) {
      want_tokens[at_index(i * 11 + t)] = all[at_index(t)];
      if (t + 1 < std::ssize(s.prompt)) continue;  // predicts a token of the prompt
      want_rows.push_back(i * 11 + t);
      want_targets.push_back(all[at_index(t + 1)]);
    }
    EXPECT_EQ(packed.inputs[at_index(i)], std::ssize(all) - 1);
  }
  EXPECT_EQ(packed.offset.back(), std::ssize(want_rows));
  EXPECT_EQ(tokens, want_tokens);
  EXPECT_EQ(rows, want_rows);
  EXPECT_EQ(targets, want_targets);
}

TEST(Pack, one_prompt_token_and_one_response_token_is_one_row) {
  const std::vector<std::int32_t> prompt = {9}, response = {0};
  const PackedSequences packed = pack(std::vector<Sequence>{{prompt, response}}, at::kCPU);
  EXPECT_EQ(packed.length, 1);
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
      for (std::int64_t i = 0; i < packed.count; ++i) {
        const at::Tensor want = test::rows_that_predict(model, world.sequences[at_index(i)]);
        const at::Tensor got = hidden.narrow(0, packed.offset[at_index(i)], want.size(0));
        EXPECT_LE((got - want).abs().max().item<double>(), 4e-6 * want.abs().max().item<double>())
            << "first " << first << ", sequence " << i;
      }
    }
    EXPECT_THROW(response_hidden(model, packed, 2, {}), InternalError);
  }
}

TEST(ResponseHidden, rows_behind_a_shorter_sequence_never_matter) {
  const World world;
  const CausalLm model = test::toy_lm({}, 8);
  PackedSequences packed = pack(world.sequences, at::kCPU);
  const at::NoGradGuard no_grad;
  const at::Tensor before = response_hidden(model, packed, 0, {});
  for (std::int64_t i = 0; i < packed.count; ++i)
    packed.tokens.narrow(0, i * packed.length + packed.inputs[at_index(i)], packed.length - packed.inputs[at_index(i)])
        .fill_(12);
  EXPECT_TRUE(response_hidden(model, packed, 0, {}).equal(before));
}

TEST(MicroBatches, partition_the_sequences_by_length) {
  const World world;
  for (const std::int64_t size : {1, 2, 4, 9, 100}) {
    const auto batches = micro_batches(world.sequences, size);
    EXPECT_EQ(std::ssize(batches), (9 + size - 1) / size);
    std::set<std::int64_t> seen;
    std::int64_t longest = 0;
    for (const auto& batch : batches) {
      EXPECT_LE(std::ssize(batch), size);
      for (const std::int64_t i : batch) {
        EXPECT_TRUE(seen.insert(i).second);
        EXPECT_GE(world.sequences[at_index(i)].inputs(), longest);
        longest = world.sequences[at_index(i)].inputs();
      }
    }
    EXPECT_EQ(seen.size(), 9u);
  }
  EXPECT_TRUE(micro_batches({}, 4).empty());
  EXPECT_THROW(micro_batches(world.sequences, 0), InternalError);
}

}  // namespace
}  // namespace vbon
