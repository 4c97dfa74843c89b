// The field lists of a config struct as a flat list of keys ("sampling.temperature"), each with how its type is read
// from YAML and printed. The templates only choose a LeafType for every field; all else is compiled once.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "vbon/base/error.hpp"
#include "vbon/base/fields.hpp"
#include "vbon/cli/yaml_node.hpp"

namespace vbon {

// What one type of leaf needs; `value` points to an object of that type. read() throws UserError saying what is needed
// and what was found, without key and place, and leaves the object as it was.
struct LeafType {
  std::string (*name)();  // "integer", "a | b", "list of text"
  void (*read)(const YamlNode&, void* value);
  YamlNode (*print)(const void* value);  // null: not set
  bool (*is_unset)(const void* value);   // not set, or empty: a required key must not be
  bool can_be_unset;
};

struct Leaf {
  std::string path;
  FieldInfo info;
  const LeafType* type;
  void* value;  // inside the bound struct, which outlives this list
};

struct BoundSection {
  std::string path;
  FieldInfo info;
};

struct BoundFields;

// A section of sections that the user names.
struct BoundSectionMap {
  std::string path;
  std::function<void(BoundFields&, const std::string& name)> add;  // one more, with defaults
};

struct BoundFields {
  std::vector<BoundSection> sections;  // in field order, parents before children
  std::vector<Leaf> leaves;            // in field order
  std::vector<BoundSectionMap> maps;

  const Leaf* leaf(std::string_view path) const;
  bool has_section(std::string_view path) const;
  // Makes the section of a map that `path` names or lies in. False where it is in no map; UserError for a bad name.
  bool add_named_section(std::string_view path);
};

// `path` is `section` or a key somewhere in it.
bool lies_in(std::string_view path, std::string_view section);

namespace detail {

[[noreturn]] void throw_wrong_type(std::string_view needed, const YamlNode& found);
bool read_bool(const YamlNode& node);
std::int64_t read_integer(const YamlNode& node, std::int64_t lowest, std::int64_t highest);
double read_number(const YamlNode& node);
std::string read_text(const YamlNode& node, std::string_view needed);
std::size_t read_choice(const YamlNode& node, std::span<const std::string> choices);
std::string number_text(double value);   // shortest that reads back equal, always with a point or exponent
// "300s", "5m", "1.5h" where the unit is "s": the number of seconds; anything else as it is.
YamlNode in_unit(const YamlNode& node, std::string_view unit);
bool means_unset(const YamlNode& node);  // null, ~, none
YamlNode text_value_node(const std::string& text);

template <class T>
struct Codec;

template <>
struct Codec<bool> {
  static std::string name() { return "true | false"; }
  static bool read(const YamlNode& node) { return read_bool(node); }
  static YamlNode print(bool value) { return YamlNode::plain(value ? "true" : "false"); }
};

template <class T>
requires std::is_same_v<T, int> || std::is_same_v<T, std::int64_t>
struct Codec<T> {
  static std::string name() { return "integer"; }
  static T read(const YamlNode& node) {
    return static_cast<T>(read_integer(node, std::numeric_limits<T>::min(), std::numeric_limits<T>::max()));
  }
  static YamlNode print(T value) { return YamlNode::plain(std::to_string(value)); }
};

template <>
struct Codec<double> {
  static std::string name() { return "number"; }
  static double read(const YamlNode& node) { return read_number(node); }
  static YamlNode print(double value) { return YamlNode::plain(number_text(value)); }
};

template <>
struct Codec<std::string> {
  static std::string name() { return "text"; }
  static std::string read(const YamlNode& node) { return read_text(node, "text"); }
  static YamlNode print(const std::string& value) { return YamlNode::words(value); }
};

template <NamedEnum E>
struct Codec<E> {
  static std::vector<std::string> choices() {
    std::vector<std::string> names;
    for (const auto& [value, name] : std::span<const std::pair<E, std::string_view>>(enum_names(E{})))
      names.emplace_back(name);
    return names;
  }
  static std::string name() {
    std::string text;
    for (const std::string& choice : choices()) text += (text.empty() ? "" : " | ") + choice;
    return text;
  }
  static E read(const YamlNode& node) {
    return std::span<const std::pair<E, std::string_view>>(enum_names(E{}))[read_choice(node, choices())].first;
  }
  static YamlNode print(E value) { return YamlNode::words(std::string(enum_name(value))); }
};

// A type may say what it reads: static constexpr std::string_view kSyntax = "auto | all | {rollout: R, …}".
template <TextValue T>
struct Codec<T> {
  static std::string name() {
    if constexpr (requires { T::kSyntax; }) return std::string(T::kSyntax);
    return "text";
  }
  static T read(const YamlNode& node) {
    const bool nested = node.kind == YamlNode::Kind::map || node.kind == YamlNode::Kind::sequence;
    return T::parse(nested ? flow_text(node) : read_text(node, name()));
  }
  static YamlNode print(const T& value) { return text_value_node(value.text()); }
};

template <class T>
struct Codec<std::vector<T>> {
  static std::string name() { return "list of " + Codec<T>::name(); }
  static std::vector<T> read(const YamlNode& node) {
    if (node.kind == YamlNode::Kind::null) throw_wrong_type(name() + " ([] for an empty one)", node);
    std::vector<T> values;
    if (node.kind != YamlNode::Kind::sequence) {
      values.push_back(Codec<T>::read(node));
      return values;
    }
    for (std::size_t i = 0; i < node.items.size(); ++i) {
      try {
        values.push_back(Codec<T>::read(node.items[i]));
      } catch (const UserError& e) {
        throw UserError("element {}: {}", i + 1, e.what());
      }
    }
    return values;
  }
  static YamlNode print(const std::vector<T>& values) {
    YamlNode node;
    node.kind = YamlNode::Kind::sequence;
    for (const T& value : values) node.items.push_back(Codec<T>::print(value));
    return node;
  }
};

template <class T>
struct Codec<std::optional<T>> {
  static std::string name() { return Codec<T>::name() + " | none"; }
  static std::optional<T> read(const YamlNode& node) {
    if (means_unset(node)) return std::nullopt;
    if constexpr (std::is_same_v<T, double>)  // a number that follows from others unless it is given
      if (node.kind == YamlNode::Kind::scalar && node.text == "auto") return std::nullopt;
    return Codec<T>::read(node);
  }
  static YamlNode print(const std::optional<T>& value) { return value ? Codec<T>::print(*value) : YamlNode{}; }
};

template <class T>
constexpr bool kCanBeUnset = requires(const T& value) {
  value.has_value();
}
|| requires(const T& value) { value.empty(); };

template <class T>
bool is_unset(const T& value) {
  if constexpr (requires { value.has_value(); }) {
    if constexpr (requires { value->empty(); }) return !value || value->empty();
    return !value.has_value();
  } else if constexpr (requires { value.empty(); }) {
    return value.empty();
  } else {
    return false;
  }
}

template <class T>
inline constexpr LeafType kLeafType = {
    .name = &Codec<T>::name,
    .read = [](const YamlNode& node, void* value) { *static_cast<T*>(value) = Codec<T>::read(node); },
    .print = [](const void* value) { return Codec<T>::print(*static_cast<const T*>(value)); },
    .is_unset = [](const void* value) { return is_unset(*static_cast<const T*>(value)); },
    .can_be_unset = kCanBeUnset<T>,
};

class FieldBinder {
 public:
  template <class T>
  void operator()(T& value, const FieldInfo& info) {
    const std::string outer = prefix_;
    const std::string path = outer.empty() ? std::string(info.name) : outer + "." + std::string(info.name);
    if constexpr (Section<T>) {
      fields.sections.push_back({.path = path, .info = info});
      prefix_ = path;
      T::visit(*this, value);
      prefix_ = outer;
    } else if constexpr (SectionMap<T>) {
      fields.sections.push_back({.path = path, .info = info});
      for (auto& [name, section] : value) add_named(section, path, name, info);
      prefix_ = outer;
      fields.maps.push_back({.path = path, .add = [&value, path, info](BoundFields& bound, const std::string& name) {
                               FieldBinder binder;
                               std::swap(binder.fields, bound);
                               const auto entry = value.try_emplace(name).first;
                               binder.add_named(entry->second, path, entry->first, info);
                               std::swap(binder.fields, bound);
                             }});
    } else {
      add_leaf({.path = path, .info = info, .type = &kLeafType<T>, .value = &value});
    }
  }

  BoundFields fields;

 private:
  // `name` lives as long as the map that it is a key of. Leaves prefix_ at the map.
  template <class T>
  void add_named(T& section, const std::string& map, const std::string& name, const FieldInfo& info) {
    prefix_ = map;
    (*this)(section, FieldInfo{.name = name, .help = info.help});
  }
  void add_leaf(Leaf leaf);  // InternalError: a key listed twice, a required key of a type that is always set
  std::string prefix_;
};

}  // namespace detail

// The keys of `config`, which must outlive them.
template <Section T>
BoundFields bind_fields(T& config) {
  detail::FieldBinder binder;
  T::visit(binder, config);
  return std::move(binder.fields);
}

}  // namespace vbon
