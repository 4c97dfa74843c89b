#include "vbon/train/counters.hpp"

#include <cmath>
#include <nlohmann/json.hpp>

#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/json.hpp"

namespace vbon {
namespace {

// v(name, value, lowest value of a whole number)
template <class V, class Self>
void visit(V&& v, Self& c) {
  v("behind", c.behind, -1);
  v("step", c.run.step, 0);
  v("episodes", c.run.episodes, 0);
  v("tokens", c.run.tokens, 0);
  v("optimizer_steps", c.optimizer_steps, 0);
  v("kl_coef", c.kl_coef, 0);
  v("best_step", c.run.best_step, -1);
  v("best_win", c.run.best_win, 0);
}

}  // namespace

void write_counters(const fs::path& path, const SavedCounters& counters) {
  nlohmann::json text;
  visit([&](const char* name, const auto& value, int) { text[name] = value; }, counters);
  write_file_atomically(path, text.dump(1) + "\n");
}

SavedCounters read_counters(const fs::path& path) {
  const nlohmann::json text = parse_json(read_file(path, 1 << 16), "'" + path.string() + "'");
  SavedCounters counters;
  const auto read = [&](const char* name, auto& value, int lowest) {
    if (name == std::string_view("behind") && !text.contains(name)) return;  // of older versions
    const bool there = text.is_object() && text.contains(name);
    constexpr bool kWhole = std::is_integral_v<std::remove_reference_t<decltype(value)>>;
    require(there && (kWhole ? text[name].is_number_integer() : text[name].is_number()),
            "'{}' is damaged: '{}' is missing or no number", path.string(), name);
    text[name].get_to(value);
    if constexpr (kWhole) require(value >= lowest, "'{}' is damaged: '{}' is {}", path.string(), name, value);
  };
  visit(read, counters);
  return counters;
}

}  // namespace vbon
