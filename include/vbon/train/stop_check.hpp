// Whether to stop before the work is done: a signal came, or the allocation is about to end. Ranks agree.
#pragma once

#include <string>

#include "vbon/base/time_limit.hpp"
#include "vbon/comm/collectives.hpp"
#include "vbon/train/training_run.hpp"

namespace vbon {

class StopCheck {
 public:
  // Collective: one rank may know the end of the allocation, all learn it. Steps are measured from here on.
  StopCheck(comm::Collectives& everyone, const Settings& settings, const RunText& text);

  // Local: a step is done; whether this rank wants to stop.
  bool step_done();
  // Collective: whether some rank wanted to stop when it last looked.
  bool agreed();
  // "stopped by signal 10", "stopped in time: the allocation ends in …"; after agreed().
  std::string reason() const;

 private:
  enum class Wish : std::int64_t { none, time_limit, signal };  // of several, the last is told
  comm::Collectives& everyone_;
  TimeLimit limit_;
  Wish wish_ = Wish::none;
};

}  // namespace vbon
