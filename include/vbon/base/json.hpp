// JSON of files that others wrote. Copying and printing a value recurses, so that nesting is bounded before the parser
// sees it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace vbon {

inline constexpr int kMaxJsonDepth = 64;  // more than any format that is read here has

// Whether brackets outside of strings nest deeper than `depth`; for any bytes, JSON or not.
bool nests_deeper(std::string_view text, int depth);

// UserError "WHAT is no valid JSON: …" for what is none, or nests deeper than kMaxJsonDepth.
nlohmann::json parse_json(std::string_view text, const std::string& what);

}  // namespace vbon
