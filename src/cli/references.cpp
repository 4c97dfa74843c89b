#include <algorithm>
#include <cstdlib>

#include "cli/overlay.hpp"
#include "vbon/base/words.hpp"

namespace vbon {
namespace {

bool is_variable_name(std::string_view name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  return !name.empty() && letter(name[0]) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

// What stands between "${" and "}".
std::string looked_up(std::string_view reference, const EnvironmentLookup& environment) {
  const std::size_t mark = reference.find(":-");
  const std::string name(reference.substr(0, mark));
  require(is_variable_name(name),
          "'${{{}}}' is no reference to an environment variable; write ${{NAME}}, "
          "${{NAME:-default}}, or $${{ for the characters themselves",
          reference);
  const std::optional<std::string> value = environment(name);
  if (mark != std::string_view::npos && (!value || value->empty())) return std::string(reference.substr(mark + 2));
  require(value.has_value(), "the environment variable {} is not set; set it, or write ${{{}:-default}}", name, name);
  require(is_valid_utf8(*value), "the environment variable {} is not valid UTF-8", name);
  return *value;
}

std::pair<std::string, bool> expanded(std::string_view text, const EnvironmentLookup& environment) {
  std::string out;
  bool any = false;
  while (!text.empty()) {
    if (text.starts_with("$${")) {
      out += "${";
      text.remove_prefix(3);
    } else if (text.starts_with("${")) {
      const std::size_t end = text.find('}');
      require(end != std::string_view::npos,
              "'{}' begins an environment reference that has no end '}}'; "
              "write $${{ for the characters themselves",
              text);
      out += looked_up(text.substr(2, end - 2), environment);
      any = true;
      text.remove_prefix(end + 1);
    } else {
      out += text[0];
      text.remove_prefix(1);
    }
  }
  return {std::move(out), any};
}

}  // namespace

std::optional<std::string> process_environment(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  if (value == nullptr) return std::nullopt;
  return value;
}

bool expand_references(YamlNode& node, const EnvironmentLookup& environment) {
  bool any = false;
  if (node.kind == YamlNode::Kind::scalar && node.text.find("${") != std::string::npos) {
    auto [text, held] = expanded(node.text, environment);
    node.text = std::move(text);
    if (held) node.quoted = false;
    any = held;
  }
  for (YamlNode& item : node.items) any = expand_references(item, environment) || any;
  for (YamlNode::Entry& entry : node.entries) any = expand_references(entry.value, environment) || any;
  return any;
}

std::string escaped_references(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text.substr(i).starts_with("${")) out += '$';
    out += text[i];
  }
  return out;
}

}  // namespace vbon
