#include "vbon/store/keep.hpp"

#include <charconv>

#include "vbon/base/error.hpp"
#include "vbon/base/words.hpp"

namespace vbon {

Keep Keep::parse(std::string_view text) {
  const std::string_view plain = trimmed(text);
  if (plain == "all") return all();
  if (plain.starts_with("last ")) {
    const std::string_view digits = trimmed(plain.substr(5));
    std::int64_t k = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), k);
    if (error == std::errc() && end == digits.data() + digits.size() && k >= 1) return last_of(k);
  }
  throw UserError("'{}' is neither 'all' nor 'last K' with K >= 1", text);
}

std::string Keep::text() const { return last == 0 ? "all" : fmt::format("last {}", last); }

}  // namespace vbon
