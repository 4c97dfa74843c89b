#include "vbon/base/words.hpp"

#include <gtest/gtest.h>

namespace vbon {
namespace {

TEST(Words, nearest_name_finds_typing_errors_and_refuses_strangers) {
  const std::vector<std::string> names = {"temperature", "max_new_tokens", "top_k", "top_p"};
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(nearest_name("temprature", names), "temperature");
  EXPECT_EQ(nearest_name("max_tokens", names), "max_new_tokens");
  EXPECT_EQ(nearest_name("topk", names), "top_k");
  EXPECT_EQ(nearest_name("zzzzzzzz", names), "");
}

TEST(Words, people_read_sizes_and_durations) {
  EXPECT_EQ(counted(1, "rank"), "1 rank");
  EXPECT_EQ(counted(0, "rank"), "0 ranks");
  EXPECT_EQ(human_bytes(512), "512 B");
  EXPECT_EQ(human_bytes(1610612736), "1.5 GiB");
  EXPECT_EQ(human_seconds(4.23), "4.2s");
  EXPECT_EQ(human_seconds(200), "3m20s");
  EXPECT_EQ(human_seconds(3725), "1h02m");
}

TEST(Words, utf8_validity) {
  EXPECT_TRUE(is_valid_utf8("plain, \xC3\xA9, \xE4\xB8\xAD, \xF0\x9F\x98\x80"));
  for (const char* bad : {"\xC3", "\xC0\xAF", "\xED\xA0\x80", "\xF5\x80\x80\x80", "a\x80", "\xE4\xB8"})
    EXPECT_FALSE(is_valid_utf8(bad)) << bad;
}

TEST(Words, split_and_trim) {
  EXPECT_EQ(split("a,,b", ','), (std::vector<std::string>{"a", "", "b"}));
  EXPECT_EQ(trimmed("  a b\n"), "a b");
  EXPECT_EQ(trimmed(" \n"), "");
}

}  // namespace
}  // namespace vbon
