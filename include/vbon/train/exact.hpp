// Evaluation by listing every response, for models small enough: no sampling error, so that what a method converges to
// can be compared with theory.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "vbon/reward/scorer.hpp"
#include "vbon/text/tokenizer.hpp"
#include "vbon/train/run_inputs.hpp"
#include "vbon/train/settings.hpp"
#include "vbon/train/trainable.hpp"

namespace vbon {

// Every response of at most `max_tokens` tokens: those that end with an end-of-sequence token, and those that are cut.
// UserError where there are more than `most`.
std::vector<std::vector<std::int32_t>> all_responses(std::int64_t vocab_size, std::span<const std::int32_t> eos_ids,
                                                     std::int64_t max_tokens, std::int64_t most);

// UserError where a model has too many responses for exact_figures.
void require_listable(const Settings& settings, const LmSpec& spec);

// Means over prompts of exact figures of a policy, by name (`more`: the rewards of section rewards):
//   kl, win, reward          against the reference (ties half)
//   reference_reward
//   effective_n              the N whose Best-of-N is nearest (objective/enumerated.hpp)
//   kl_to_nearest_bon        KL(pi || that one)
//   win.NAME                 by each reward of section rewards
//   kl_to_target             KL(pi || target of sections vbon and rewards), for methods that have one
//   kl_to_optimum            KL(pi || what the method's objective has for its optimum over all policies): that target,
//                            or pi_ref e^{r/beta} for ppo, and for dpo with soft or sampled labels; pi_ref e^{F/beta} for
//                            ipo with hard ones; of bond with `reward: full`; none for the others
//   bon_N.kl, bon_N.win, bon_N.reward   Best-of-N itself, for every N of eval.bon_n
std::map<std::string, double> exact_figures(const Settings& settings, const Prompts& prompts,
                                            const Tokenizer& tokenizer, RewardModel& reward,
                                            const std::vector<RewardModel*>& more, const CausalLm& reference,
                                            const Policy& policy);

}  // namespace vbon
