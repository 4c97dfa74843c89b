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

RewardRanks with_mixtures(RewardRanks counted, std::map<std::int64_t, LogisticMixture> mixtures, double round) {
  const auto shared = std::make_shared<const std::map<std::int64_t, LogisticMixture>>(std::move(mixtures));
  const auto both = std::make_shared<const RewardRanks>(std::move(counted));
  const auto log_f = [both, shared, round](std::int64_t row, float reward, std::span<const std::int32_t> response) {
    const auto own = shared->find(row);
    return own == shared->end() ? both->log_f(row, reward, response) : log_f_of(own->second, reward, round);
  };
  // Half of what ties, whichever rule the counts follow.
  const auto win = [both, shared, round](std::int64_t row, float reward) {
    const auto own = shared->find(row);
    if (own == shared->end()) return both->win(row, reward);
    const Quantiles q = log_f_of(own->second, reward, round).exact;
    return 0.5 * (q.f_strict + q.f);
  };
  return {.log_f = log_f, .win = win};
}

}  // namespace vbon
