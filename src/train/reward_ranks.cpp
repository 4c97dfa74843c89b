#include "vbon/train/reward_ranks.hpp"

#include "vbon/objective/bon_curve.hpp"

namespace vbon {

RewardRanks ranks_of_table(const LogFTable& table, const std::vector<std::int64_t>& table_row) {
  const auto row_of = [&table_row](std::int64_t row) { return table_row[static_cast<std::size_t>(row)]; };
  return {.log_f = [&table, row_of](
                       std::int64_t row, float reward,
                       std::span<const std::int32_t> response) { return table.of(row_of(row), reward, response); },
          .win = [&table, row_of](std::int64_t row, float reward) { return win_rate(table.row(row_of(row)), reward); }};
}

RewardRanks ranks_of_mixtures(const LogFTable* table, const std::vector<std::int64_t>& table_row,
                              std::vector<LogisticMixture> mixtures, double round) {
  const auto shared = std::make_shared<const std::vector<LogisticMixture>>(std::move(mixtures));
  const auto row_of = [table, &table_row](std::int64_t row) {
    return table == nullptr ? -1 : table_row[static_cast<std::size_t>(row)];
  };
  const auto log_f = [table, row_of, shared, round](std::int64_t row, float reward,
                                                    std::span<const std::int32_t> response) {
    const std::int64_t at = row_of(row);
    return at >= 0 ? table->of(at, reward, response)
                   : log_f_of((*shared)[static_cast<std::size_t>(row)], reward, round);
  };
  // Half of what ties, whichever rule the counts follow.
  const auto win = [table, row_of, shared, round](std::int64_t row, float reward) {
    const std::int64_t at = row_of(row);
    if (at >= 0) return win_rate(table->row(at), reward);
    const Quantiles q = log_f_of((*shared)[static_cast<std::size_t>(row)], reward, round).exact;
    return 0.5 * (q.f_strict + q.f);
  };
  return {.log_f = log_f, .win = win};
}

}  // namespace vbon
