// JSON of files that others wrote: duplicate keys and deep nesting are refused, and every error is the user's.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace vbon {

// `what` names the text in messages. max_depth counts nested objects and arrays, the outermost is 1.
nlohmann::json parse_strict_json(std::string_view text, int max_depth, const std::string& what);

}  // namespace vbon
