// Ranks that follow each other in the same roles, as one line of a table.
#pragma once

#include <string>
#include <vector>

#include "vbon/comm/placement.hpp"

namespace vbon::cli {

struct RankRange {
  int first = 0, last = 0;
  comm::RoleSet roles;
  int first_node = 0, last_node = 0;
  std::string devices;  // those in use, "0-3"; "": CPU
};
std::vector<RankRange> rank_ranges(const comm::Placement& placement);

}  // namespace vbon::cli
