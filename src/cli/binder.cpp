#include "vbon/cli/binder.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "vbon/base/words.hpp"

namespace vbon {

const Leaf* BoundFields::leaf(std::string_view path) const {
  const auto found = std::find_if(leaves.begin(), leaves.end(), [&](const Leaf& leaf) { return leaf.path == path; });
  return found == leaves.end() ? nullptr : &*found;
}

bool BoundFields::has_section(std::string_view path) const {
  return std::any_of(sections.begin(), sections.end(), [&](const BoundSection& s) { return s.path == path; });
}

bool BoundFields::add_named_section(std::string_view path) {
  for (const BoundSectionMap& map : maps) {
    if (path == map.path || !lies_in(path, map.path)) continue;
    const std::string_view below = path.substr(map.path.size() + 1);
    const std::string name(below.substr(0, below.find('.')));
    if (has_section(fmt::format("{}.{}", map.path, name))) return false;
    require(!name.empty() && std::all_of(name.begin(), name.end(),
                                         [](char c) {
                                           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                                                  (c >= '0' && c <= '9') || c == '_' || c == '-';
                                         }),
            "'{}' cannot name a section of {}: letters, digits, _ and - can", name, map.path);
    const auto add = map.add;  // adding replaces the list that `map` stands in
    add(*this, name);
    return true;
  }
  return false;
}

bool lies_in(std::string_view path, std::string_view section) {
  return path == section || (path.starts_with(section) && path.substr(section.size()).starts_with('.'));
}

namespace detail {
namespace {

std::string lower_case(std::string_view text) {
  std::string lower;
  for (const char c : text) lower += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return lower;
}

// Numbers and truth values are plain: '3' in quotes is text.
std::string_view plain_text(const YamlNode& node, std::string_view needed) {
  if (node.kind != YamlNode::Kind::scalar || node.quoted) throw_wrong_type(needed, node);
  const std::string_view text = trimmed(node.text);
  return text.starts_with('+') && !text.starts_with("+-") ? text.substr(1) : text;
}

}  // namespace

void throw_wrong_type(std::string_view needed, const YamlNode& found) {
  throw UserError("needs {}, found {}", needed, description(found));
}

bool read_bool(const YamlNode& node) {
  constexpr std::array<std::string_view, 3> kTrue = {"true", "yes", "on"};
  constexpr std::array<std::string_view, 3> kFalse = {"false", "no", "off"};
  const std::string text = lower_case(plain_text(node, "true or false"));
  if (std::find(kTrue.begin(), kTrue.end(), text) != kTrue.end()) return true;
  if (std::find(kFalse.begin(), kFalse.end(), text) == kFalse.end()) throw_wrong_type("true or false", node);
  return false;
}

std::int64_t read_integer(const YamlNode& node, std::int64_t lowest, std::int64_t highest) {
  constexpr std::string_view kNeeded = "a whole number";
  const std::string_view text = plain_text(node, kNeeded);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = end == text.data() + text.size();
  if (whole &&
      (error == std::errc::result_out_of_range || (error == std::errc() && (value < lowest || value > highest))))
    throw UserError("needs a whole number from {} to {}, found {}", lowest, highest, description(node));
  if (!whole || error != std::errc()) throw_wrong_type(kNeeded, node);
  return value;
}

double read_number(const YamlNode& node) {
  constexpr std::string_view kNeeded = "a number";
  const std::string_view text = plain_text(node, kNeeded);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = end == text.data() + text.size();
  if (whole && error == std::errc::result_out_of_range)
    throw UserError("needs a number that a double can hold, found {}", description(node));
  const std::string lower = lower_case(text);
  if ((whole && error == std::errc() && !std::isfinite(value)) || lower == ".inf" || lower == "-.inf" ||
      lower == ".nan")
    throw UserError("needs a finite number, found {}", description(node));
  if (!whole || error != std::errc()) throw_wrong_type(kNeeded, node);
  return value;
}

std::string read_text(const YamlNode& node, std::string_view needed) {
  if (node.kind == YamlNode::Kind::null) throw_wrong_type(fmt::format("{} (\"\" for an empty one)", needed), node);
  if (node.kind != YamlNode::Kind::scalar) throw_wrong_type(needed, node);
  return node.text;
}

std::size_t read_choice(const YamlNode& node, std::span<const std::string> choices) {
  const std::string needed = "one of " + joined(choices);
  const std::string text = read_text(node, needed);
  const auto found = std::find(choices.begin(), choices.end(), text);
  if (found != choices.end()) return static_cast<std::size_t>(found - choices.begin());
  const std::string nearest = nearest_name(text, choices);
  if (nearest.empty()) throw_wrong_type(needed, node);
  throw UserError("needs {}, found {}; did you mean '{}'?", needed, description(node), nearest);
}

std::string number_text(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".n") != std::string::npos) return text;  // has a point; or nan, inf
  const std::size_t exponent = text.find('e');
  // "1.0e-05" and not "1e-05", which YAML 1.1 readers take for text.
  return exponent == std::string::npos ? text + ".0" : text.insert(exponent, ".0");
}

YamlNode in_unit(const YamlNode& node, std::string_view unit) {
  if (unit != "s" || node.kind != YamlNode::Kind::scalar || node.quoted || node.text.size() < 2) return node;
  const std::size_t which = std::string_view("smh").find(node.text.back());
  if (which == std::string_view::npos) return node;
  const std::string_view digits = std::string_view(node.text).substr(0, node.text.size() - 1);
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size() || !std::isfinite(value)) return node;
  constexpr std::array<double, 3> kSeconds = {1, 60, 3600};
  YamlNode seconds = node;
  seconds.text = number_text(value * kSeconds[which]);
  return seconds;
}

bool means_unset(const YamlNode& node) {
  if (node.kind == YamlNode::Kind::null) return true;
  if (node.kind != YamlNode::Kind::scalar || node.quoted) return false;
  const std::string text = lower_case(node.text);
  return text == "null" || text == "~" || text == "none";
}

YamlNode text_value_node(const std::string& text) {
  YamlNode words = YamlNode::words(text);
  if (!text.starts_with('{') && !text.starts_with('[')) return words;
  // A map or list in flow form is shown as such where it reads back to the same text.
  try {
    std::vector<std::string> errors;
    YamlNode node = parse_yaml(text, "", errors);
    if (errors.empty() && flow_text(node) == text) return node;
  } catch (const UserError&) {
  }
  return words;
}

void FieldBinder::add_leaf(Leaf leaf) {
  check(fields.leaf(leaf.path) == nullptr && !fields.has_section(leaf.path), "a key is listed twice");
  check(!leaf.info.required || leaf.type->can_be_unset, "a required key needs a type that can be empty");
  check(!leaf.info.name.empty() && leaf.info.name.find('.') == std::string_view::npos, "a key is one word");
  fields.leaves.push_back(std::move(leaf));
}

}  // namespace detail
}  // namespace vbon
