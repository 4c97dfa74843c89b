// The end of the time that a batch system gives, and when work made of steps has to stop so that it can be kept.
#pragma once

#include <algorithm>
#include <optional>
#include <string>

namespace vbon {

double unix_time();  // seconds since 1970

// Pure: the caller brings the time, in seconds since 1970.
class TimeLimit {
 public:
  // No end: never near. `before_end_s`: what has to be left when work stops.
  TimeLimit(std::optional<double> end_s, double before_end_s, double now_s)
      : end_s_(end_s), before_end_s_(before_end_s), last_s_(now_s) {}

  void step_done(double now_s) {
    longest_s_ = std::max(longest_s_, now_s - last_s_);
    last_s_ = now_s;
  }
  // Whether less is left than before_end_s after one more step as long as the longest so far.
  bool is_near(double now_s) const { return end_s_ && *end_s_ - now_s < before_end_s_ + longest_s_; }
  std::string reason(double now_s) const;

 private:
  std::optional<double> end_s_;
  double before_end_s_ = 0, last_s_ = 0, longest_s_ = 0;
};

}  // namespace vbon
