#include "vbon/base/json.hpp"

#include <nlohmann/json.hpp>

#include "vbon/base/error.hpp"

namespace vbon {

bool nests_deeper(std::string_view text, int depth) {
  int open = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      else if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++open > depth) return true;
    } else if ((c == ']' || c == '}') && open > 0) {
      --open;
    }
  }
  return false;
}

nlohmann::json parse_json(std::string_view text, const std::string& what) {
  require(!nests_deeper(text, kMaxJsonDepth), "{} is no valid JSON: it is nested deeper than {} levels", what,
          kMaxJsonDepth);
  try {
    return nlohmann::json::parse(text.begin(), text.end());
  } catch (const nlohmann::json::exception& error) {
    throw UserError("{} is no valid JSON: {}", what, error.what());
  }
}

}  // namespace vbon
