// More than any schema of ours has: a file beyond it is refused.
#pragma once

#include <cstddef>

namespace vbon::detail::h5 {

inline constexpr int kMaxDepth = 16;               // of groups: hard links may form circles
inline constexpr std::size_t kMaxNames = 1 << 16;  // of objects in one file

}  // namespace vbon::detail::h5
