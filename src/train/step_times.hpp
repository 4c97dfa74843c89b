// Where the time of a step went, on every rank: from the end of one step's record to that of the next, so that a
// checkpoint is part of the step after it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "vbon/train/phases.hpp"
#include "vbon/train/rank_context.hpp"

namespace vbon {

class StepTimes {
 public:
  explicit StepTimes(RankContext& context) : context_(context) {}

  void begin();
  // Collective over the world: seconds of each phase, of idle and in total, one a rank. Begins the next step.
  std::map<std::string, std::vector<double>> gather();

 private:
  RankContext& context_;
  Phases::Clock::time_point since_;
  double idle_before_ = 0;
};

}  // namespace vbon
