#include "vbon/objective/prefix_value.hpp"

#include <algorithm>

#include "vbon/base/error.hpp"

namespace vbon {

PrefixLine fit_prefix_line(std::span<const double> now, std::span<const double> whole) {
  check(now.size() == whole.size(), "a beginning belongs to a response");
  if (now.empty()) return {};
  const auto count = static_cast<double>(now.size());
  double mean_now = 0, mean_whole = 0, var_now = 0, var_whole = 0, covariance = 0;
  for (std::size_t i = 0; i < now.size(); ++i) mean_now += now[i] / count, mean_whole += whole[i] / count;
  for (std::size_t i = 0; i < now.size(); ++i) {
    const double x = now[i] - mean_now, y = whole[i] - mean_whole;
    var_now += x * x, var_whole += y * y, covariance += x * y;
  }
  PrefixLine line;
  line.slope = std::clamp(var_now > 0 ? covariance / var_now : 0.0, 0.0, 1.0);
  line.intercept = mean_whole - line.slope * mean_now;
  if (var_whole > 0) line.r2 = line.slope * (2 * covariance - line.slope * var_now) / var_whole;
  return line;
}

}  // namespace vbon
