// What collectives of any backend have to give, computed by every rank for itself: each knows what the others hold.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <type_traits>
#include <vector>

#include "vbon/base/rng.hpp"
#include "vbon/comm/element.hpp"

namespace vbon::comm::oracle {

using ElementTypes = testing::Types<float, double, std::int32_t, std::int64_t, std::uint8_t, BFloat16, Float16>;

// The value of rank `rank` at `index`: any rank can compute any other's.
template <class T>
T value_at(int rank, std::int64_t index) {
  const RandomStream draws(17, Purpose::subset);
  if constexpr (std::is_same_v<T, BFloat16>) return to_bfloat16(static_cast<float>(draws.normal(index, rank)));
  else if constexpr (std::is_same_v<T, Float16>) return to_float16(static_cast<float>(draws.normal(index, rank)));
  else if constexpr (std::is_floating_point_v<T>) return static_cast<T>(draws.normal(index, rank));
  else return static_cast<T>(draws.words(index, rank, 0)[0]);
}

template <class T>
std::vector<T> values_of(int rank, std::int64_t count, std::int64_t first = 0) {
  std::vector<T> values;
  for (std::int64_t i = 0; i < count; ++i) values.push_back(value_at<T>(rank, first + i));
  return values;
}

template <class T>
T combined(T a, T b, Reduction op) {
  if (op == Reduction::max) return a > b ? a : b;
  if (op == Reduction::min) return a < b ? a : b;
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
  else return a + b;
}

template <class T>
std::vector<T> reduced(int ranks, std::int64_t count, Reduction op, std::int64_t first = 0) {
  std::vector<T> result;
  for (std::int64_t i = first; i < first + count; ++i) {
    if constexpr (std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>) {
      float sum = to_float(value_at<T>(0, i));
      for (int r = 1; r < ranks; ++r) sum = combined(sum, to_float(value_at<T>(r, i)), op);
      if constexpr (std::is_same_v<T, BFloat16>) result.push_back(to_bfloat16(sum));
      else result.push_back(to_float16(sum));
    } else {
      T sum = value_at<T>(0, i);
      for (int r = 1; r < ranks; ++r) sum = combined(sum, value_at<T>(r, i), op);
      result.push_back(sum);
    }
  }
  return result;
}

inline constexpr Reduction kReductions[] = {Reduction::sum, Reduction::max, Reduction::min};
// Around the sizes of blocks (4096 bytes) and of pieces (10,000 bytes here: cut in the middle of nothing round).
inline constexpr std::int64_t kSizes[] = {0, 1, 2, 5, 1023, 1025, 4096, 20011};

}  // namespace vbon::comm::oracle
