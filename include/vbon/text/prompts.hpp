// Prompts as tokens, and which of them a step of the online loop takes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "vbon/text/records.hpp"
#include "vbon/text/tokenizer.hpp"

namespace vbon {

// Ragged: prompt i is tokens[offset[i] … offset[i + 1]).
struct TokenizedPrompts {
  std::vector<std::int32_t> tokens;        // [sum]
  std::vector<std::int64_t> offset = {0};  // [P + 1]

  std::size_t size() const { return offset.size() - 1; }
  std::int64_t length(std::size_t i) const { return offset[i + 1] - offset[i]; }
  std::span<const std::int32_t> prompt(std::size_t i) const;
};

struct PromptLimits {
  std::int64_t context_length = 0;  // tokens that the model can attend to
  std::int64_t max_new_tokens = 0;
  bool add_special_tokens = true;  // what the tokenizer adds around a text (a first <s>, …)
};

// UserError naming the first few prompts (id, tokens) that leave no room for max_new_tokens or have no token at all.
TokenizedPrompts tokenize_prompts(const PromptSet& set, const Tokenizer& tokenizer, const PromptLimits& limits);

// The places in the prompt set of step `step` (from 0): a pure function of its arguments. Prompts go by epochs; each is
// a keyed permutation of all, cut into steps; the num_prompts % prompts_per_step that do not fill a step sit that epoch
// out. So a step never holds a prompt twice: draws are keyed by prompt, and twice the same would draw the same.
// UserError if prompts_per_step exceeds num_prompts.
std::vector<std::int64_t> prompt_indices(std::uint64_t seed, std::uint64_t prompt_set, std::int64_t num_prompts,
                                         std::int64_t step, std::int64_t prompts_per_step);

}  // namespace vbon
