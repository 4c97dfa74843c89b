#include "store/strict_json.hpp"

#include <set>
#include <vector>

#include "vbon/base/error.hpp"

namespace vbon {

nlohmann::json parse_strict_json(std::string_view text, int max_depth, const std::string& what) {
  using Event = nlohmann::json::parse_event_t;
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto watch = [&](int depth, Event event, nlohmann::json& parsed) {
    switch (event) {
      case Event::object_start:
      case Event::array_start:
        require(depth < max_depth, "{} is nested deeper than its format allows", what);
        if (event == Event::object_start) keys.emplace_back();
        break;
      case Event::object_end: keys.pop_back(); break;
      case Event::key: {
        const auto& key = parsed.get_ref<const std::string&>();
        require(keys.back().insert(key).second, "{} names '{}' twice", what, key);
        break;
      }
      default: break;
    }
    return true;
  };
  try {
    return nlohmann::json::parse(text.begin(), text.end(), watch);
  } catch (const nlohmann::json::exception& error) {
    throw UserError("{} is no valid JSON: {}", what, error.what());
  }
}

}  // namespace vbon
