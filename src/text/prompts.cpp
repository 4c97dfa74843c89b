#include "vbon/text/prompts.hpp"

#include <fmt/format.h>

#include "vbon/base/error.hpp"
#include "vbon/base/rng.hpp"

namespace vbon {

std::span<const std::int32_t> TokenizedPrompts::prompt(std::size_t i) const {
  return std::span(tokens).subspan(static_cast<std::size_t>(offset[i]), static_cast<std::size_t>(length(i)));
}

TokenizedPrompts tokenize_prompts(const PromptSet& set, const Tokenizer& tokenizer, const PromptLimits& limits) {
  const std::int64_t room = limits.context_length - limits.max_new_tokens;
  require(room >= 1, "max_new_tokens {} leaves no room for a prompt in the model's context of {} tokens",
          limits.max_new_tokens, limits.context_length);
  constexpr int kShown = 5;
  TokenizedPrompts prompts;
  std::string shown;
  int bad = 0;
  for (std::size_t k = 0; k < set.size(); ++k) {
    const auto ids = tokenizer.encode(set.texts[k], {.add_special_tokens = limits.add_special_tokens});
    const auto length = static_cast<std::int64_t>(ids.size());
    if (length == 0 || length > room) {
      if (++bad <= kShown) shown += fmt::format("{}prompt {} has {} tokens", bad > 1 ? ", " : "", set.ids[k], length);
      continue;
    }
    prompts.tokens.insert(prompts.tokens.end(), ids.begin(), ids.end());
    prompts.offset.push_back(static_cast<std::int64_t>(prompts.tokens.size()));
  }
  if (bad > kShown) shown += fmt::format(", and {} more", bad - kShown);
  require(bad == 0,
          "{} prompt{} not fit: with max_new_tokens {} and a context of {} tokens a prompt has 1 to {} tokens; {}", bad,
          bad == 1 ? " does" : "s do", limits.max_new_tokens, limits.context_length, room, shown);
  return prompts;
}

std::vector<std::int64_t> prompt_indices(std::uint64_t seed, std::uint64_t prompt_set, std::int64_t num_prompts,
                                         std::int64_t step, std::int64_t prompts_per_step) {
  require(prompts_per_step >= 1 && prompts_per_step <= num_prompts,
          "a step takes {} prompts, but the prompt set has {}: give more prompts or take fewer a step",
          prompts_per_step, num_prompts);
  check(step >= 0, "a step before the first");
  const std::int64_t steps_per_epoch = num_prompts / prompts_per_step;
  const auto order =
      permutation(RandomStream(seed, Purpose::prompt_order, prompt_set, step / steps_per_epoch), num_prompts);
  const auto first = order.begin() + step % steps_per_epoch * prompts_per_step;
  return {first, first + prompts_per_step};
}

}  // namespace vbon
