#include "vbon/base/time_limit.hpp"

#include <fmt/format.h>

#include <chrono>

#include "vbon/base/words.hpp"

namespace vbon {

double unix_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

double steady_time() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string TimeLimit::reason(double steady_s) const {
  if (!end_s_) return "no end of the time is known";
  return fmt::format("the allocation ends in {}, checkpoint.before_end is {} and a step takes up to {}",
                     human_seconds(std::max(0.0, *end_s_ - steady_s)), human_seconds(before_end_s_),
                     human_seconds(longest_s_));
}

}  // namespace vbon
