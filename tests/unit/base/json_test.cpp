#include "vbon/base/json.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "vbon/base/error.hpp"

namespace vbon {
namespace {

std::string nested(int levels) {
  return std::string(static_cast<std::size_t>(levels), '[') + std::string(static_cast<std::size_t>(levels), ']');
}

TEST(Json, nesting_counts_brackets_outside_of_strings) {
  EXPECT_FALSE(nests_deeper("", 0));
  EXPECT_FALSE(nests_deeper("[][{}]", 2));
  EXPECT_TRUE(nests_deeper("[][{}]", 1));
  EXPECT_FALSE(nests_deeper(R"({"[[[[": "{{\"[[\\"})", 1));
  EXPECT_TRUE(nests_deeper(R"(["\\", [[]]])", 2));
  EXPECT_FALSE(nests_deeper("]]]}[", 1));  // no JSON, but not deep
  EXPECT_FALSE(nests_deeper("[\"[[[[\\", 1));
}

TEST(Json, text_that_is_none_or_too_deep_is_the_users_error) {
  EXPECT_EQ(parse_json(R"({"a": [1, 2]})", "x")["a"][1], 2);
  EXPECT_NO_THROW(parse_json(nested(kMaxJsonDepth), "x"));
  for (const std::string& bad : {nested(kMaxJsonDepth + 1), nested(1'000'000), std::string(), std::string("{\"a\""),
                                 std::string("\"\xFF\""), std::string("1e999"), std::string("[1] 2")})
    EXPECT_THROW(parse_json(bad, "x"), UserError) << bad.substr(0, 100);
}

}  // namespace
}  // namespace vbon
