// Widths of text for people: columns are counted in characters, not in bytes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vbon {

std::size_t display_width(std::string_view text);  // characters of valid UTF-8
std::string padded(std::string_view text, std::size_t width, bool right = false);
// The first `width` characters at most; the last one is "…" where something was cut.
std::string shortened(std::string_view text, std::size_t width);
// Lines of at most `width` characters, broken at blanks; a longer word stands alone, uncut. At least one line.
std::vector<std::string> wrapped(std::string_view text, std::size_t width);
std::string without_blanks_at_end(std::string line);
// Control characters (line ends, terminal escapes) as blanks.
std::string one_line(std::string_view text);

}  // namespace vbon
