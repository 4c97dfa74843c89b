#include "vbon/train/stop_check.hpp"

#include <fmt/format.h>

#include "vbon/base/stop.hpp"
#include "vbon/comm/agree.hpp"

namespace vbon {
namespace {

// By steady_time(), from here on: a wall clock that is set later moves no end.
std::optional<double> agreed_end(comm::Collectives& everyone, const std::optional<double>& end_unix_s) {
  const double end = comm::max_of(everyone, end_unix_s.value_or(0), "end of the allocation");
  return end > 0 ? std::optional(steady_time() + end - unix_time()) : std::nullopt;
}

}  // namespace

StopCheck::StopCheck(comm::Collectives& everyone, const Settings& settings, const RunText& text)
    : everyone_(everyone), limit_(agreed_end(everyone, text.end_s), settings.checkpoint.before_end_s, steady_time()) {}

bool StopCheck::step_done() {
  limit_.step_done(steady_time());
  if (stop::requested()) wish_ = Wish::signal;
  else if (limit_.is_near(steady_time())) wish_ = Wish::time_limit;
  return wish_ != Wish::none;
}

bool StopCheck::agreed() {
  wish_ = static_cast<Wish>(comm::max_of(everyone_, static_cast<std::int64_t>(wish_), "stop requested"));
  return wish_ != Wish::none;
}

std::string StopCheck::reason() const {
  if (wish_ == Wish::time_limit) return "stopped in time: " + limit_.reason(steady_time());
  return stop::signal_number() != 0 ? fmt::format("stopped by signal {}", stop::signal_number())
                                    : "stopped by a signal to another rank";
}

}  // namespace vbon
