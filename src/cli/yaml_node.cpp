#include "vbon/cli/yaml_node.hpp"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <array>
#include <map>
#include <sstream>

#include "vbon/base/error.hpp"
#include "vbon/base/words.hpp"

namespace vbon {
namespace {

std::size_t count_nodes(const YamlNode& node) {
  std::size_t count = 1;
  for (const YamlNode& item : node.items) count += count_nodes(item);
  for (const YamlNode::Entry& entry : node.entries) count += count_nodes(entry.value);
  return count;
}

int depth(const YamlNode& node) {
  int deepest = 0;
  for (const YamlNode& item : node.items) deepest = std::max(deepest, depth(item));
  for (const YamlNode::Entry& entry : node.entries) deepest = std::max(deepest, depth(entry.value));
  return deepest + 1;
}

std::size_t text_bytes(const YamlNode& node) {
  std::size_t bytes = node.text.size();
  for (const YamlNode& item : node.items) bytes += text_bytes(item);
  for (const YamlNode::Entry& entry : node.entries) bytes += entry.key.size() + text_bytes(entry.value);
  return bytes;
}

// Builds the tree from yaml-cpp's events rather than from its nodes, which keep duplicate keys silently and share
// aliased parts, so that limits could not be held.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(const std::string& name, std::vector<std::string>& errors) : name_(name), errors_(errors) {}

  YamlNode take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    require(documents_++ == 0, "{}: a second document ('---'); one is expected", place(mark));
  }
  void OnDocumentEnd() override {}
  void OnAnchor(const YAML::Mark&, const std::string&) override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { add(node_at(mark), anchor); }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    YamlNode node = node_at(mark);
    node.kind = YamlNode::Kind::scalar;
    node.text = value;
    node.quoted = tag == "!" || tag == "tag:yaml.org,2002:str";
    constexpr std::array<std::string_view, 4> kCore = {"int", "float", "bool", "null"};
    const bool core = std::any_of(kCore.begin(), kCore.end(), [&](std::string_view type) {
      return tag == "tag:yaml.org,2002:" + std::string(type);
    });
    // yaml-cpp makes a lone byte of "\\N"; and no text of ours holds a zero byte.
    require(is_valid_utf8(value) && value.find('\0') == std::string::npos, "{}: an escape that is no character here",
            node.place);
    require(node.quoted || core || tag.empty() || tag == "?", "{}: the tag '{}' is not supported", node.place, tag);
    add_text(value.size(), mark);
    add(std::move(node), anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    require(found != anchors_.end(), "{}: an alias inside of what it stands for", place(mark));
    // Counted before it is copied: a bomb is refused while it is small.
    add_nodes(count_nodes(found->second) - 1, mark);
    add_text(text_bytes(found->second), mark);
    require(static_cast<int>(open_.size()) + depth(found->second) <= kMaxYamlDepth + 1,
            "{}: nested deeper than {} levels", place(mark), kMaxYamlDepth);
    YamlNode copy = found->second;
    copy.place = place(mark);
    add(std::move(copy), 0);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, YamlNode::Kind::sequence, anchor);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, YamlNode::Kind::map, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    YamlNode node;
    YAML::anchor_t anchor;
    bool has_key = false;  // of a map: the key came, its value is next
    std::string key;
    std::string key_place;
  };

  std::string place(const YAML::Mark& mark) const { return fmt::format("{}:{}", name_, mark.line + 1); }

  YamlNode node_at(const YAML::Mark& mark) {
    add_nodes(1, mark);
    YamlNode node;
    node.place = place(mark);
    return node;
  }

  void add_nodes(std::size_t count, const YAML::Mark& mark) {
    nodes_ += count;
    require(nodes_ <= kMaxYamlNodes, "{}: more than {} values (aliases counted as what they stand for)", place(mark),
            kMaxYamlNodes);
  }

  void add_text(std::size_t bytes, const YAML::Mark& mark) {
    bytes_ += bytes;
    require(bytes_ <= 4 * kMaxYamlBytes, "{}: more than {} of text (aliases counted as what they stand for)",
            place(mark), human_bytes(4 * kMaxYamlBytes));
  }

  void open(const YAML::Mark& mark, YamlNode::Kind kind, YAML::anchor_t anchor) {
    require(static_cast<int>(open_.size()) < kMaxYamlDepth, "{}: nested deeper than {} levels", place(mark),
            kMaxYamlDepth);
    YamlNode node = node_at(mark);
    node.kind = kind;
    open_.push_back({.node = std::move(node), .anchor = anchor});
  }

  void close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    add(std::move(done.node), done.anchor);
  }

  void add(YamlNode node, YAML::anchor_t anchor) {
    if (anchor != 0) {
      add_nodes(count_nodes(node), {});  // the anchor's own copy
      anchors_[anchor] = node;
    }
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == YamlNode::Kind::sequence) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.has_key) {
      require(node.kind == YamlNode::Kind::scalar, "{}: a key must be a word, found {}", node.place, description(node));
      parent.has_key = true;
      parent.key = node.text;
      parent.key_place = node.place;
    } else {
      parent.has_key = false;
      add_entry(parent, std::move(node));
    }
  }

  void add_entry(Open& parent, YamlNode value) {
    const auto same = std::find_if(parent.node.entries.begin(), parent.node.entries.end(),
                                   [&](const YamlNode::Entry& entry) { return entry.key == parent.key; });
    if (same != parent.node.entries.end()) {
      errors_.push_back(
          fmt::format("the key '{}' is given twice ({} and {}); keep one", parent.key, same->place, parent.key_place));
      return;
    }
    require(parent.node.entries.size() < kMaxEntries, "{}: more than {} keys in one map", parent.key_place,
            kMaxEntries);
    parent.node.entries.push_back({.key = parent.key, .place = parent.key_place, .value = std::move(value)});
  }

  static constexpr std::size_t kMaxEntries = 1000;  // keeps the search for duplicates short

  const std::string& name_;
  std::vector<std::string>& errors_;
  YamlNode root_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, YamlNode> anchors_;
  std::size_t nodes_ = 0;
  std::size_t bytes_ = 0;
  int documents_ = 0;
};

// yaml-cpp takes byte 4 for the end of its input, and YAML allows no control characters anyway.
void require_plain_text(std::string_view text, const std::string& name) {
  require(text.size() <= kMaxYamlBytes, "{}: {} of YAML; at most {} are accepted", name, human_bytes(text.size()),
          human_bytes(kMaxYamlBytes));
  require(is_valid_utf8(text), "{}: not valid UTF-8; save it as UTF-8", name);
  std::size_t line = 1;
  for (const char c : text) {
    line += c == '\n' ? 1 : 0;
    const bool control = (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\r' && c != '\t') || c == 0x7F;
    require(!control, "{}:{}: a control character (byte {}); remove it", name, line, static_cast<int>(c));
  }
}

bool is_plain_safe(std::string_view text) {
  constexpr std::array<std::string_view, 9> kReserved = {"null", "none", "true", "false", "yes",
                                                         "no",   "on",   "off",  "~"};
  if (text.empty() || text.size() > 200) return false;
  std::string lower;
  for (const char c : text) lower += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  if (std::find(kReserved.begin(), kReserved.end(), lower) != kReserved.end()) return false;
  const bool word_start = (lower[0] >= 'a' && lower[0] <= 'z') || lower[0] == '/' || lower[0] == '_' ||
                          lower.starts_with("./") || lower.starts_with("../");
  return word_start && lower.size() > 1 && std::all_of(lower.begin(), lower.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.' || c == '/';
         });
}

// Plain scalars of ours: numbers, truth values, null.
bool is_number_like(std::string_view text) {
  return !text.empty() && text.size() < 64 &&
         std::all_of(text.begin(), text.end(),
                     [](char c) {
                       return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' ||
                              c == '-' || c == '.';
                     }) &&
         text != "-" && text != "." && text != "..." && text != "---";
}

std::string double_quoted(std::string_view text) {
  std::string out = "\"";
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    switch (text[i]) {
      case '"': out += "\\\""; continue;
      case '\\': out += "\\\\"; continue;
      case '\n': out += "\\n"; continue;
      case '\t': out += "\\t"; continue;
      case '\r': out += "\\r"; continue;
      default: break;
    }
    if (byte < 0x20 || byte == 0x7F) {
      out += fmt::format("\\x{:02x}", byte);
    } else if (text.substr(i).starts_with("\xC2\x85")) {  // next line, line and paragraph separator, byte order mark:
      out += "\\u0085";                                   // line ends to some readers
      i += 1;
    } else if (text.substr(i).starts_with("\xE2\x80\xA8") || text.substr(i).starts_with("\xE2\x80\xA9")) {
      out += text[i + 2] == '\xA8' ? "\\u2028" : "\\u2029";
      i += 2;
    } else if (text.substr(i).starts_with("\xEF\xBB\xBF")) {
      out += "\\ufeff";
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out + '"';
}

std::string key_text(const std::string& key) { return is_plain_safe(key) ? key : double_quoted(key); }

}  // namespace

YamlNode YamlNode::plain(std::string text) {
  YamlNode node;
  node.kind = Kind::scalar;
  node.text = std::move(text);
  return node;
}

YamlNode YamlNode::words(std::string text) {
  YamlNode node = plain(std::move(text));
  node.quoted = true;
  return node;
}

YamlNode parse_yaml(std::string_view text, const std::string& name, std::vector<std::string>& errors) {
  require_plain_text(text, name);
  std::istringstream input{std::string(text)};
  TreeBuilder builder(name, errors);
  try {
    YAML::Parser parser(input);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& e) {
    throw UserError("{}:{}: not valid YAML: {} (column {}); text with special characters needs quotes", name,
                    e.mark.line + 1, e.msg, e.mark.column + 1);
  }
  return builder.take_root();
}

std::string flow_text(const YamlNode& node) {
  std::vector<std::string> parts;
  switch (node.kind) {
    case YamlNode::Kind::null: return "null";
    case YamlNode::Kind::scalar:
      if (node.quoted ? is_plain_safe(node.text) : is_number_like(node.text)) return node.text;
      return double_quoted(node.text);
    case YamlNode::Kind::sequence:
      for (const YamlNode& item : node.items) parts.push_back(flow_text(item));
      return "[" + joined(parts) + "]";
    case YamlNode::Kind::map:
      for (const YamlNode::Entry& entry : node.entries)
        parts.push_back(key_text(entry.key) + ": " + flow_text(entry.value));
      return "{" + joined(parts) + "}";
  }
  return {};
}

std::string description(const YamlNode& node) {
  constexpr std::size_t kShown = 60;
  switch (node.kind) {
    case YamlNode::Kind::null: return "nothing";
    case YamlNode::Kind::sequence: return fmt::format("a list of {}", node.items.size());
    case YamlNode::Kind::map: return "a map of keys";
    case YamlNode::Kind::scalar: break;
  }
  if (node.text.size() <= kShown) return fmt::format("{}'{}'", node.quoted ? "the text " : "", node.text);
  std::size_t end = kShown;
  while (end > 0 && (static_cast<unsigned char>(node.text[end]) & 0xC0) == 0x80) --end;  // whole characters only
  return fmt::format("{}'{}…'", node.quoted ? "the text " : "", node.text.substr(0, end));
}

std::string unquoted(const std::string& flow) {
  const bool has_quotes =
      flow.size() >= 2 && (flow.front() == '"' || flow.front() == '\'') && flow.front() == flow.back();
  return has_quotes ? flow.substr(1, flow.size() - 2) : flow;
}

}  // namespace vbon
