#include "vbon/base/fields.hpp"

#include <gtest/gtest.h>

#include <array>

namespace vbon {
namespace {

enum class Colour { red, blue };
constexpr std::array<std::pair<Colour, std::string_view>, 2> kColours = {
    {{Colour::red, "red"}, {Colour::blue, "blue"}}};
std::span<const std::pair<Colour, std::string_view>> enum_names(Colour) { return kColours; }

struct Inner {
  int count = 3;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.count, {.name = "count", .help = "how many"});
  }
};

struct Outer {
  double rate = 0.5;
  Inner inner;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.rate, {.name = "rate", .help = "how fast", .unit = "1/s"});
    v(c.inner, {.name = "inner", .help = "nested"});
  }
};

static_assert(Section<Outer> && Section<Inner> && !Section<int> && NamedEnum<Colour>);

struct Names {
  std::vector<std::string> names;
  template <class T>
  void operator()(T& value, const FieldInfo& info) {
    names.emplace_back(info.name);
    if constexpr (Section<std::remove_const_t<T>>) std::remove_const_t<T>::visit(*this, value);
  }
};

TEST(Fields, visitors_see_every_field_in_order_const_or_not) {
  Names names;
  const Outer outer;
  Outer::visit(names, outer);
  EXPECT_EQ(names.names, (std::vector<std::string>{"rate", "inner", "count"}));
}

TEST(Fields, enums_have_names_both_ways) {
  EXPECT_EQ(enum_name(Colour::blue), "blue");
  EXPECT_EQ(enum_value<Colour>("red"), Colour::red);
  EXPECT_EQ(enum_value<Colour>("green"), std::nullopt);
}

}  // namespace
}  // namespace vbon
