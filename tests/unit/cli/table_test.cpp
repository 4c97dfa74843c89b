#include "vbon/cli/table.hpp"

#include <gtest/gtest.h>

#include "cli/text_layout.hpp"
#include "vbon/base/error.hpp"

namespace vbon {
namespace {

Table sample() {
  Table table({"policy", "KL", "win rate"});
  table.add_row({"reference", "0", "0.500"});
  table.add_row({"vBoN", "1.32", "0.81 ± 0.01"});
  table.add_row({"BoN (pool)\x1b[31m", "-", "0.875"});
  return table;
}

TEST(Table, numbers_stand_right_and_words_left) {
  EXPECT_EQ(sample().text(),
            "policy             KL     win rate\n"
            "---------------  ----  -----------\n"
            "reference           0        0.500\n"
            "vBoN             1.32  0.81 ± 0.01\n"
            "BoN (pool) [31m     -        0.875\n");
}

TEST(Table, markdown_escapes_bars_and_aligns_numbers) {
  Table table({"key", "n"});
  table.add_row({"a | b", "1"});
  EXPECT_EQ(table.markdown(), "| key | n |\n|---|---:|\n| a \\| b | 1 |\n");
}

TEST(Table, a_row_of_another_length_is_our_bug) {
  Table table({"a", "b"});
  EXPECT_THROW(table.add_row({"1"}), InternalError);
}

TEST(Table, without_rows_is_its_header) { EXPECT_EQ(Table({"a", "bb"}).text(), "a  bb\n-  --\n"); }

TEST(TextLayout, counts_characters) {
  EXPECT_EQ(display_width("a±b…"), 4u);
  EXPECT_EQ(padded("±", 3), "±  ");
  EXPECT_EQ(padded("±", 3, true), "  ±");
  EXPECT_EQ(shortened("±±±±", 4), "±±±±");
  EXPECT_EQ(shortened("±±±±", 3), "±±…");
  EXPECT_EQ(shortened("abc", 0), "");
  EXPECT_EQ(wrapped("one two  three", 7), (std::vector<std::string>{"one two", "three"}));
  EXPECT_EQ(wrapped("unbreakable x", 4), (std::vector<std::string>{"unbreakable", "x"}));
  EXPECT_EQ(wrapped("", 4), std::vector<std::string>{""});
}

}  // namespace
}  // namespace vbon
