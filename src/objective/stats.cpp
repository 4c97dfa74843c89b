#include "vbon/objective/stats.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "vbon/base/error.hpp"
#include "vbon/objective/log_f.hpp"

namespace vbon {

MeanError mean_error(std::span<const double> values) {
  check(!values.empty(), "values to average");
  const double count = static_cast<double>(values.size());
  MeanError result{.count = static_cast<std::int64_t>(values.size())};
  for (const double v : values) result.mean += v / count;
  double squares = 0;
  for (const double v : values) squares += (v - result.mean) * (v - result.mean);
  if (values.size() > 1) result.sd = std::sqrt(squares / (count - 1.0));
  result.se = result.sd / std::sqrt(count);
  return result;
}

Interval bootstrap_mean(std::span<const double> values, const RandomStream& stream, double level, int resamples) {
  check(!values.empty() && resamples >= 1 && level > 0 && level < 1, "values, resamples and a level in (0, 1)");
  const auto count = static_cast<std::int64_t>(values.size());
  std::vector<double> means(static_cast<std::size_t>(resamples));
  for (int b = 0; b < resamples; ++b) {
    double sum = 0;
    for (std::int64_t i = 0; i < count; ++i) sum += values[static_cast<std::size_t>(stream.below(count, i, b))];
    means[static_cast<std::size_t>(b)] = sum / static_cast<double>(count);
  }
  std::sort(means.begin(), means.end());
  const auto quantile = [&](double q) {  // linear between order statistics
    const double place = q * static_cast<double>(means.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const auto above = std::min(below + 1, means.size() - 1);
    return means[below] + (place - static_cast<double>(below)) * (means[above] - means[below]);
  };
  return {quantile((1.0 - level) / 2.0), quantile((1.0 + level) / 2.0)};
}

double win_rate(std::span<const float> sorted, float reward) {
  check(!sorted.empty(), "a table");
  const TableCounts counts = count_in_table(sorted, reward);
  return 0.5 * static_cast<double>(counts.lt + counts.le) / static_cast<double>(sorted.size());
}

double auc(std::span<const double> scores, std::span<const std::uint8_t> labels) {
  check(scores.size() == labels.size(), "a label for every score");
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] < scores[b]; });
  double negatives = 0, positives = 0, wins = 0;
  for (std::size_t begin = 0; begin < order.size();) {
    double tied_negatives = 0, tied_positives = 0;
    std::size_t end = begin;
    for (; end < order.size() && scores[order[end]] == scores[order[begin]]; ++end)
      (labels[order[end]] != 0 ? tied_positives : tied_negatives) += 1;
    check(end > begin, "scores that are numbers");
    wins += tied_positives * (negatives + 0.5 * tied_negatives);
    negatives += tied_negatives;
    positives += tied_positives;
    begin = end;
  }
  if (negatives == 0 || positives == 0) return std::numeric_limits<double>::quiet_NaN();
  return wins / (negatives * positives);
}

double accuracy(std::span<const double> scores, std::span<const std::uint8_t> labels, double threshold) {
  check(scores.size() == labels.size() && !scores.empty(), "a label for every score");
  std::size_t right = 0;
  for (std::size_t i = 0; i < scores.size(); ++i) right += (scores[i] > threshold) == (labels[i] != 0) ? 1u : 0u;
  return static_cast<double>(right) / static_cast<double>(scores.size());
}

}  // namespace vbon
