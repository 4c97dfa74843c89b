#include "vbon/train/prefixes.hpp"

#include <string>

#include "vbon/base/error.hpp"

namespace vbon {

std::vector<PrefixReward> score_prefixes(RewardModel& reward, const Tokenizer& tokenizer,
                                         std::span<const TokenResponse> responses, std::int64_t every) {
  check(every >= 1, "score_prefixes: every >= 1");
  std::vector<PrefixReward> prefixes;
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < responses.size(); ++i)
    for (std::int64_t kept = every; kept < static_cast<std::int64_t>(responses[i].tokens.size()); kept += every) {
      prefixes.push_back({.response = i, .tokens = kept});
      texts.push_back(tokenizer.decode(responses[i].tokens.first(static_cast<std::size_t>(kept))));
    }
  std::vector<PromptResponse> requests;
  for (std::size_t k = 0; k < prefixes.size(); ++k)
    requests.push_back({responses[prefixes[k].response].prompt, texts[k]});
  const std::vector<float> scores = reward.score(requests);
  for (std::size_t k = 0; k < prefixes.size(); ++k) prefixes[k].reward = scores[k];
  return prefixes;
}

PrefixValues fit_prefix_values(const Pool& pool, const LogFTable& table,
                               const std::function<double(const LogF&)>& score) {
  const PrefixRows& prefixes = pool.block.prefixes;
  require(prefixes.every > 0,
          "the pool holds no scored prefixes; set pool.prefix_every (4, say) and make it again with 'vbon pool'");
  const std::int64_t per_prompt = pool.header.num_samples, cuts = prefixes.num_cuts(pool.header.max_new_tokens);
  const std::vector<float>& rewards = pool.block.rewards.at("main");
  std::vector<std::vector<double>> now(static_cast<std::size_t>(cuts)), whole(static_cast<std::size_t>(cuts));
  PrefixValues values{.every = prefixes.every};
  for (std::size_t i = 0; i < rewards.size(); ++i) {
    const std::int64_t row = static_cast<std::int64_t>(i) / per_prompt,
                       sample = static_cast<std::int64_t>(i) % per_prompt;
    const auto response = pool.block.samples.tokens_of(row, sample);
    const double final_score = score(table.of_own(row, rewards[i], response));
    values.start += final_score / static_cast<double>(rewards.size());
    if (sample >= prefixes.samples) continue;
    const auto first = static_cast<std::size_t>(prefixes.begin_of(row, sample, cuts));
    for (std::size_t cut = 0; cut < static_cast<std::size_t>(prefixes.num_cuts(pool.block.samples.length[i])); ++cut) {
      now[cut].push_back(score(table.of(row, prefixes.reward[first + cut],
                                        response.first((cut + 1) * static_cast<std::size_t>(prefixes.every)))));
      whole[cut].push_back(final_score);
    }
  }
  for (std::size_t cut = 0; cut < now.size(); ++cut) values.lines.push_back(fit_prefix_line(now[cut], whole[cut]));
  return values;
}

}  // namespace vbon
