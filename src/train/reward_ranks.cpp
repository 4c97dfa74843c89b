#include "vbon/train/reward_ranks.hpp"

#include "vbon/objective/bon_curve.hpp"

namespace vbon {

RewardRanks ranks_of_table(const LogFTable& table, const std::vector<std::int64_t>& table_row) {
  const auto row_of = [&table_row](std::int64_t row) { return table_row[static_cast<std::size_t>(row)]; };
  return {.log_f = [&table, row_of](std::int64_t row, float reward) { return table.of(row_of(row), reward); },
          .win = [&table, row_of](std::int64_t row, float reward) { return win_rate(table.row(row_of(row)), reward); }};
}

}  // namespace vbon
