// A YAML text as a tree that remembers where each value stood. Parsing is bounded (size, depth, number of nodes after
// aliases are resolved), so that no text can exhaust the machine; everything wrong with a text is a UserError.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vbon {

struct YamlNode {
  enum class Kind { null, scalar, sequence, map };
  struct Entry;

  Kind kind = Kind::null;
  std::string text;             // of a scalar
  bool quoted = false;          // a scalar that is text whatever it looks like: '3', "true", a block scalar
  std::vector<YamlNode> items;  // of a sequence
  std::vector<Entry> entries;   // of a map, in the order of the text
  std::string place;            // quickstart.yaml:12

  static YamlNode plain(std::string text);  // a number, a truth value …
  static YamlNode words(std::string text);  // text: quoted when printed wherever it could be mistaken
};

struct YamlNode::Entry {
  std::string key;
  std::string place;
  YamlNode value;
};

inline constexpr std::size_t kMaxYamlBytes = std::size_t{1} << 20;
inline constexpr std::size_t kMaxYamlNodes = 100'000;  // with every alias counted as what it stands for
inline constexpr int kMaxYamlDepth = 32;

// The one document in `text`; an empty text is a null node. `name` stands before line numbers in places and messages.
// What can be named without giving up (duplicate keys) is appended to `errors`; a text that is no YAML throws.
YamlNode parse_yaml(std::string_view text, const std::string& name, std::vector<std::string>& errors);

// One line of flow YAML that parses to an equal tree.
std::string flow_text(const YamlNode& node);
// A scalar's flow text without the quotes around it, if it has them.
std::string unquoted(const std::string& flow);

// What was found, for messages: "the text 'abc'", "the number 3", "a list of 2", "a map", "nothing".
std::string description(const YamlNode& node);

}  // namespace vbon
