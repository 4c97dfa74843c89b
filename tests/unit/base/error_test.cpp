#include "vbon/base/error.hpp"

#include <gtest/gtest.h>

#include "vbon/base/words.hpp"

namespace vbon {
namespace {

TEST(Errors, what_quotes_a_file_stays_readable) {
  EXPECT_EQ(std::string(UserError("{} is {}", "x", 3).what()), "x is 3");
  for (std::size_t before = 0; before < 4; ++before) {
    std::string long_text(before, 'x');
    while (long_text.size() < 2 * kMaxMessageBytes) long_text += "\xF0\x9F\x98\x80";
    const std::string said = UserError("'{}' is no name", long_text).what();
    EXPECT_LE(said.size(), kMaxMessageBytes);
    EXPECT_GT(said.size(), kMaxMessageBytes - 8);
    EXPECT_TRUE(is_valid_utf8(said));
    EXPECT_TRUE(said.ends_with("…"));
  }
}

}  // namespace
}  // namespace vbon
