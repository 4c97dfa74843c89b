// "all" or "last K": which of a series of files stay (`rollouts.keep`, `checkpoint.keep`).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace vbon {

struct Keep {
  std::int64_t last = 0;  // 0: all

  static Keep all() { return {}; }
  static Keep last_of(std::int64_t k) { return {k}; }
  static Keep parse(std::string_view text);  // UserError
  std::string text() const;
  bool operator==(const Keep&) const = default;
};

}  // namespace vbon
