// The end of the time that a batch system gives, and when work made of steps has to stop so that it can be kept.
#pragma once

#include <algorithm>
#include <optional>
#include <string>

namespace vbon {

double unix_time();    // seconds since 1970: what ends are given in
double steady_time();  // seconds that no clock setting moves: what steps are measured in

// Pure: the caller brings the times, all of them of steady_time().
class TimeLimit {
 public:
  // No end: never near. `before_end_s`: what has to be left when work stops.
  TimeLimit(std::optional<double> end_s, double before_end_s, double steady_s)
      : end_s_(end_s), before_end_s_(before_end_s), last_s_(steady_s) {}

  void step_done(double steady_s) {
    longest_s_ = std::max(longest_s_, steady_s - last_s_);
    last_s_ = steady_s;
  }
  // Whether less is left than before_end_s after one more step as long as the longest so far.
  bool is_near(double steady_s) const { return end_s_ && *end_s_ - steady_s < before_end_s_ + longest_s_; }
  std::string reason(double steady_s) const;

 private:
  std::optional<double> end_s_;
  double before_end_s_ = 0, last_s_ = 0, longest_s_ = 0;
};

}  // namespace vbon
