#include "vbon/text/prompts.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/rng.hpp"

namespace vbon {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

Tokenizer gpt2() { return Tokenizer::load(fs::path(VBON_TEST_DATA) / "golden/text/gpt2"); }

TEST(Prompts, tokens_are_ragged_and_in_order) {
  const Tokenizer tokenizer = gpt2();
  const PromptSet set = make_prompt_set({5, 9, 2}, {"The movie", "a", "boring acting and plot"});
  const TokenizedPrompts prompts = tokenize_prompts(set, tokenizer, {.context_length = 64, .max_new_tokens = 16});
  ASSERT_EQ(prompts.size(), 3u);
  for (std::size_t k = 0; k < 3; ++k) {
    const auto tokens = prompts.prompt(k);
    EXPECT_EQ(std::vector<std::int32_t>(tokens.begin(), tokens.end()), tokenizer.encode(set.texts[k]));
    EXPECT_EQ(prompts.length(k), static_cast<std::int64_t>(tokens.size()));
  }
  EXPECT_EQ(prompts.offset.back(), static_cast<std::int64_t>(prompts.tokens.size()));
}

TEST(Prompts, too_long_ones_are_named) {
  const Tokenizer tokenizer = gpt2();
  const PromptSet set = make_prompt_set({5, 9}, {"a", "a b c d e f g h"});
  const auto length = static_cast<std::int64_t>(tokenizer.encode(set.texts[1]).size());
  EXPECT_EQ(tokenize_prompts(set, tokenizer, {.context_length = length + 4, .max_new_tokens = 4}).size(), 2u);
  try {
    tokenize_prompts(set, tokenizer, {.context_length = length + 3, .max_new_tokens = 4});
    FAIL() << "accepted";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("prompt 9 has " + std::to_string(length) + " tokens"), Not(HasSubstr("prompt 5"))));
  }
  EXPECT_THROW(tokenize_prompts(set, tokenizer, {.context_length = 8, .max_new_tokens = 8}), UserError);
  const PromptSet many = make_prompt_set({1, 2, 3, 4, 5, 6, 7, 8}, std::vector<std::string>(8, "too long for this"));
  try {
    tokenize_prompts(many, tokenizer, {.context_length = 9, .max_new_tokens = 8});
    FAIL() << "accepted";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("8 prompts do not fit"), HasSubstr("and 3 more")));
  }
}

TEST(PromptOrder, every_epoch_takes_each_prompt_at_most_once) {
  constexpr std::int64_t kPrompts = 23, kPerStep = 5, kSteps = 4;  // three prompts sit out
  std::set<std::set<std::int64_t>> left_out;
  for (std::int64_t epoch = 0; epoch < 50; ++epoch) {
    std::set<std::int64_t> rest;
    for (std::int64_t k = 0; k < kPrompts; ++k) rest.insert(k);
    for (std::int64_t step = 0; step < kSteps; ++step)
      for (const std::int64_t index : prompt_indices(1, 2, kPrompts, epoch * kSteps + step, kPerStep))
        EXPECT_EQ(rest.erase(index), 1u) << index;
    EXPECT_EQ(rest.size(), 3u);
    left_out.insert(rest);
  }
  EXPECT_GT(left_out.size(), 40u);  // not always the same ones
}

TEST(PromptOrder, is_a_function_of_seed_set_and_step) {
  const auto base = prompt_indices(1, 2, 100, 7, 10);
  EXPECT_EQ(base, prompt_indices(1, 2, 100, 7, 10));
  EXPECT_NE(base, prompt_indices(2, 2, 100, 7, 10));
  EXPECT_NE(base, prompt_indices(1, 3, 100, 7, 10));
  EXPECT_NE(base, prompt_indices(1, 2, 100, 8, 10));
  const auto epoch = permutation(RandomStream(1, Purpose::prompt_order, 2, 0), 100);
  EXPECT_EQ(base, std::vector<std::int64_t>(epoch.begin() + 70, epoch.begin() + 80));
  EXPECT_EQ(prompt_indices(1, 2, 3, 5, 3).size(), 3u);
  EXPECT_THROW(prompt_indices(1, 2, 3, 0, 4), UserError);
  EXPECT_THROW(prompt_indices(1, 2, 3, 0, 0), UserError);
}

// Over many epochs each prompt comes first equally often (chi-square, 99.9 % point with 9 degrees of freedom).
TEST(PromptOrder, favours_no_prompt) {
  std::map<std::int64_t, int> counts;
  for (std::int64_t step = 0; step < 10000; ++step) ++counts[prompt_indices(5, 6, 10, step, 10).front()];
  double chi_square = 0;
  for (std::int64_t k = 0; k < 10; ++k) chi_square += (counts[k] - 1000.0) * (counts[k] - 1000.0) / 1000.0;
  EXPECT_LT(chi_square, 27.9);
}

}  // namespace
}  // namespace vbon
