#include "cli/plan_ranges.hpp"

#include <fmt/format.h>

#include <set>

namespace vbon::cli {

std::vector<RankRange> rank_ranges(const comm::Placement& placement) {
  std::vector<RankRange> ranges;
  std::vector<std::set<int>> devices;
  for (std::size_t r = 0; r < placement.ranks.size(); ++r) {
    const comm::Assignment& rank = placement.ranks[r];
    if (ranges.empty() || !(ranges.back().roles == rank.roles)) {
      ranges.push_back({.first = static_cast<int>(r), .roles = rank.roles, .first_node = rank.node});
      devices.emplace_back();
    }
    ranges.back().last = static_cast<int>(r);
    ranges.back().last_node = rank.node;
    if (rank.device >= 0) devices.back().insert(rank.device);
  }
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    const std::set<int>& used = devices[i];
    if (used.empty()) continue;
    const bool gapless = *used.rbegin() - *used.begin() + 1 == static_cast<int>(used.size());
    ranges[i].devices = used.size() > 1 && gapless ? fmt::format("{}-{}", *used.begin(), *used.rbegin())
                                                   : fmt::format("{}", fmt::join(used, ","));
  }
  return ranges;
}

}  // namespace vbon::cli
