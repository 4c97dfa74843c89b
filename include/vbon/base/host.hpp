// The machine that this process runs on.
#pragma once

#include <string>

namespace vbon {

std::string host_name();  // "unknown" where the system does not say

}  // namespace vbon
