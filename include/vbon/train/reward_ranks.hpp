// What a reward is worth under the reference, by row of the prompts: from a pool's table, or anything that knows F.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "vbon/objective/logistic_mixture.hpp"

namespace vbon {

struct RewardRanks {
  // `response`: its tokens, which a total order breaks ties by.
  std::function<LogF(std::int64_t row, float reward, std::span<const std::int32_t> response)> log_f;
  std::function<double(std::int64_t row, float reward)> win;  // P(it beats a reference sample), ties half
  explicit operator bool() const { return static_cast<bool>(log_f); }
};
// `table_row`: of each prompt in the table; both are kept by reference.
RewardRanks ranks_of_table(const LogFTable& table, const std::vector<std::int64_t>& table_row);

// A mixture alone for the prompts that have one in `mixtures` (by row), `counted` for the others.
RewardRanks with_mixtures(RewardRanks counted, std::map<std::int64_t, LogisticMixture> mixtures, double round);

// The table of a reward beside the main one, over the same rows.
struct MoreTable {
  std::string name;
  double n = 1;
  std::unique_ptr<LogFTable> table;
};

// A reward beside the main one, and its share of the target: w_n.
struct RankedReward {
  std::string name;
  double n = 1;
  RewardRanks ranks;
};

}  // namespace vbon
