// One packed buffer with a version and a checksum from one rank to a group: new weights to the rollout workers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "vbon/comm/collectives.hpp"

namespace vbon::comm {

// Collective. On the root: sends `buffer` as `version`. Elsewhere: fills `buffer`, whose size is the root's, and
// returns the root's version (the argument is not read). InternalError where sizes differ; EnvironmentError where the
// content arrived damaged. Device buffers go through the group's device; each rank copies them to its host to sum them.
std::int64_t publish(Collectives& group, std::span<std::byte> buffer, std::int64_t version, int root,
                     std::string_view what);

// A fast 64-bit sum of bytes that notices damage, not malice.
std::uint64_t checksum64(std::span<const std::byte> bytes);

}  // namespace vbon::comm
