#include "train/step_times.hpp"

#include <span>

namespace vbon {

void StepTimes::begin() {
  since_ = Phases::Clock::now();
  idle_before_ = context_.idle_seconds();
  context_.phases.clear();
}

std::map<std::string, std::vector<double>> StepTimes::gather() {
  const double idle = context_.idle_seconds() - idle_before_;
  const double total = std::chrono::duration<double>(Phases::Clock::now() - since_).count();
  std::vector<double> mine(context_.phases.all().begin(), context_.phases.all().end());
  mine.push_back(idle);
  mine.push_back(total);
  begin();
  std::vector<double> all(mine.size() * static_cast<std::size_t>(context_.world.size()));
  context_.everyone->all_gather(std::span<const double>(mine), std::span<double>(all), "times");
  std::map<std::string, std::vector<double>> time;
  for (int rank = 0; rank < context_.world.size(); ++rank) {
    const double* row = all.data() + static_cast<std::size_t>(rank) * mine.size();
    for (std::size_t k = 0; k < kPhaseNames.size(); ++k) time[std::string(kPhaseNames[k])].push_back(row[k]);
    time["idle"].push_back(row[kPhaseNames.size()]);
    time["total"].push_back(row[kPhaseNames.size() + 1]);
  }
  return time;
}

}  // namespace vbon
