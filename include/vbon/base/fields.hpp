// One description of every configuration key: each section is a plain struct with in-class defaults and one
//
//   template <class V, class Self> static void visit(V&& v, Self& c) {
//     v(c.temperature, {.name = "temperature", .help = "softmax temperature of policy and reference, > 0"});
//   }
//
// Loading, overriding, help, dumping, provenance and tests are visitors over that list. A member whose type has visit()
// itself is a nested section; a std::map from names to such a type holds sections that the user names. Leaf types:
// bool, int, std::int64_t, double, std::string, std::vector of those, optionals of those, enums with an `enum_names(E)`
// overload, and types with `static T parse(std::string_view)` + `text()`.
#pragma once

#include <concepts>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace vbon {

struct FieldInfo {
  std::string_view name;
  std::string_view help;       // one line of meaning
  std::string_view unit = {};  // "s", "tokens", "nats" …; empty: none
  bool required = false;       // no default: the commands that use it refuse to start without
  bool secret = false;         // never written to files
};

namespace detail {
struct AnyVisitor {
  template <class T>
  void operator()(T&, const FieldInfo&) const {}
};
}  // namespace detail

template <class T>
concept Section = requires(T& value, detail::AnyVisitor visitor) {
  T::visit(visitor, value);
};

template <class T>
struct IsSectionMap : std::false_type {};
template <Section T>
struct IsSectionMap<std::map<std::string, T>> : std::true_type {};
// Sections of one kind with names of the user's: `evaluations.NAME.pool`.
template <class T>
concept SectionMap = IsSectionMap<T>::value;

template <class E>
concept NamedEnum = std::is_enum_v<E> && requires(E value) {
  { enum_names(value) } -> std::convertible_to<std::span<const std::pair<E, std::string_view>>>;
};

template <class T>
concept TextValue = requires(const T& value, std::string_view text) {
  { T::parse(text) } -> std::same_as<T>;
  { value.text() } -> std::convertible_to<std::string>;
};

template <NamedEnum E>
std::string_view enum_name(E value) {
  for (const auto& [candidate, name] : std::span<const std::pair<E, std::string_view>>(enum_names(value)))
    if (candidate == value) return name;
  return "?";
}

template <NamedEnum E>
std::optional<E> enum_value(std::string_view name) {
  for (const auto& [candidate, text] : std::span<const std::pair<E, std::string_view>>(enum_names(E{})))
    if (text == name) return candidate;
  return std::nullopt;
}

}  // namespace vbon
