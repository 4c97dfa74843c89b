// What a benchmark says of its rounds.
#pragma once

#include <algorithm>
#include <vector>

namespace vbon {

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace vbon
