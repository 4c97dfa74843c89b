// Beginnings of responses: their rewards, and what those foretell.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "vbon/objective/log_f.hpp"
#include "vbon/objective/prefix_value.hpp"
#include "vbon/reward/scorer.hpp"
#include "vbon/store/pool.hpp"
#include "vbon/text/tokenizer.hpp"

namespace vbon {

struct TokenResponse {
  std::string_view prompt;
  std::span<const std::int32_t> tokens;
};
struct PrefixReward {
  std::size_t response = 0;
  std::int64_t tokens = 0;  // that were kept: every, 2 every, … fewer than the response has
  float reward = 0;
};
std::vector<PrefixReward> score_prefixes(RewardModel& reward, const Tokenizer& tokenizer,
                                         std::span<const TokenResponse> responses, std::int64_t every);

// E[score of the response | its beginning], by cut of the pool's prefixes; `score` maps what the table says of a reward
// to the quantity wanted (log w_N, or the loop's reward).
struct PrefixValues {
  std::int64_t every = 0;         // tokens between cuts
  double start = 0;               // before the first token: the pool's mean
  std::vector<PrefixLine> lines;  // [C]; lines[c] after (c + 1) every tokens
};
PrefixValues fit_prefix_values(const Pool& pool, const LogFTable& table,
                               const std::function<double(const LogF&)>& score);

}  // namespace vbon
