// What this program is and what it runs on, for provenance.
#pragma once

#include <string>

namespace vbon {

std::string version();    // "0.1.0"
std::string cpu_model();  // of /proc/cpuinfo, "unknown" where it does not say

}  // namespace vbon
