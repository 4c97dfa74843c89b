// Character classes against the reference for every code point; UTF-8, lower case, normal forms, byte stand-ins.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "text/bert_characters.hpp"
#include "text/byte_level.hpp"
#include "text/unicode.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/words.hpp"

namespace vbon::text {
namespace {

constexpr char32_t kEnd = 0x110000;

std::vector<bool> members(const nlohmann::json& ranges) {
  std::vector<bool> all(kEnd);
  for (const auto& range : ranges)
    for (auto code = range[0].get<std::size_t>(); code <= range[1].get<std::size_t>(); ++code) all[code] = true;
  return all;
}

template <class Class>
void expect_members(const nlohmann::json& ranges, Class&& has, const char* name) {
  const std::vector<bool> expected = members(ranges);
  int wrong = 0;
  for (char32_t code = 0; code < kEnd; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    if (has(code) != expected[code] && ++wrong <= 5)
      ADD_FAILURE() << name << ": U+" << std::hex << static_cast<unsigned>(code) << " reference " << expected[code];
  }
  EXPECT_EQ(wrong, 0) << name;
}

TEST(Characters, bert_classes_agree_with_the_reference_on_every_code_point) {
  const auto golden = nlohmann::json::parse(read_file(fs::path(VBON_TEST_DATA) / "golden/text/bert_characters.json"));
  expect_members(
      golden["removed"], [](char32_t c) { return c == 0 || c == 0xFFFD || is_bert_control(c); }, "removed");
  expect_members(golden["accent"], is_bert_accent, "accent");
  expect_members(golden["punctuation"], is_bert_punctuation, "punctuation");
  expect_members(golden["ideograph"], is_bert_ideograph, "ideograph");
  expect_members(golden["white_space"], is_white_space, "white space");
}

// The reference knows digits of a newer Unicode than utf8proc: only those may differ.
TEST(Characters, numbers_agree_with_the_reference_where_utf8proc_knows_them) {
  const auto golden = nlohmann::json::parse(read_file(fs::path(VBON_TEST_DATA) / "golden/text/bert_characters.json"));
  const std::vector<bool> expected = members(golden["numeric"]);
  int missing = 0;
  for (char32_t code = 0; code < kEnd; ++code) {
    EXPECT_TRUE(expected[code] || !is_numeric(code)) << std::hex << static_cast<unsigned>(code);
    if (expected[code] && !is_numeric(code)) {
      EXPECT_GE(code, char32_t{0x10D40});
      ++missing;
    }
  }
  EXPECT_LT(missing, 150);
}

TEST(Characters, code_points_survive_writing_and_reading) {
  for (char32_t code = 0; code < kEnd; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    std::string text = "x";
    append_code_point(text, code);
    ASSERT_TRUE(is_valid_utf8(text));
    ASSERT_EQ(code_point_at(text, 1).value, code);
    ASSERT_EQ(code_point_at(text, 1).length, text.size() - 1);
    ASSERT_EQ(code_point_before(text, text.size()).value, code);
    ASSERT_EQ(count_code_points(text), 2u);
  }
}

// Expected texts: bytes.decode("utf-8", "replace") of Python, which follows the same rule as the reference.
TEST(Characters, invalid_bytes_become_replacement_characters) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(lossy_utf8("plain \xC3\xA9"), "plain \xC3\xA9");
  EXPECT_EQ(lossy_utf8("a\x80z"), "a" + r + "z");
  EXPECT_EQ(lossy_utf8("\xE4\xB8"), r);
  EXPECT_EQ(lossy_utf8("\xE4\xB8z"), r + "z");
  EXPECT_EQ(lossy_utf8("\xF0\x9F\x98"), r);
  EXPECT_EQ(lossy_utf8("\xF0\x9F\xE4\xB8\xAD"), r + "\xE4\xB8\xAD");
  EXPECT_EQ(lossy_utf8("\xC0\xAF"), r + r);
  EXPECT_EQ(lossy_utf8("\xE0\x80\xAF"), r + r + r);
  EXPECT_EQ(lossy_utf8("\xED\xA0\x80"), r + r + r);
  EXPECT_EQ(lossy_utf8("\xF4\x90\x80\x80"), r + r + r + r);
  EXPECT_EQ(lossy_utf8("\xF5\xFF"), r + r);
}

TEST(Characters, normal_forms) {
  EXPECT_EQ(normal_form("e\xCC\x81", Form::nfc), "\xC3\xA9");
  EXPECT_EQ(normal_form("\xC3\xA9", Form::nfd), "e\xCC\x81");
  EXPECT_EQ(normal_form("\xEF\xAC\x81", Form::nfc), "\xEF\xAC\x81");  // ligature fi
  EXPECT_EQ(normal_form("\xEF\xAC\x81", Form::nfkc), "fi");
  EXPECT_EQ(normal_form("\xEA\xB0\x81", Form::nfd), "\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8");  // Hangul
  EXPECT_EQ(normal_form("\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8", Form::nfc), "\xEA\xB0\x81");
  EXPECT_EQ(normal_form("a\xCC\x81\xCC\xA3", Form::nfc), "\xE1\xBA\xA1\xCC\x81");  // marks in canonical order
}

// Canonical ordering of a long run of marks must not be quadratic: 400,000 of them in alternating classes.
TEST(Characters, long_runs_of_marks_are_ordered_in_time) {
  std::string text = "a";
  for (int k = 0; k < 200000; ++k) text += "\xCC\x81\xCC\xA3";
  const std::string ordered = normal_form(text, Form::nfd);
  EXPECT_EQ(ordered.size(), text.size());
  EXPECT_EQ(ordered.substr(1, 4), "\xCC\xA3\xCC\xA3");
  EXPECT_EQ(ordered.substr(ordered.size() - 4), "\xCC\x81\xCC\x81");
}

TEST(Characters, lower_case) {
  std::string text;
  for (const char32_t code : {U'A', U'z', U'\u00C9', U'\u0130', U'\u03A3', U'\U00010400'}) append_lower(text, code);
  EXPECT_EQ(text, "az\xC3\xA9i\xCC\x87\xCF\x83\xF0\x90\x90\xA8");
}

TEST(Characters, every_byte_has_a_stand_in) {
  std::string bytes;
  for (int k = 0; k < 256; ++k) bytes += static_cast<char>(k);
  EXPECT_EQ(byte_level(" a\n"),
            "\xC4\xA0"
            "a\xC4\x8A");
  EXPECT_EQ(byte_level_inverse(byte_level(bytes)), bytes);
  EXPECT_EQ(byte_level_inverse("a b"), std::nullopt);
  EXPECT_EQ(byte_level_inverse("\xE2\x96\x81"), std::nullopt);
}

}  // namespace
}  // namespace vbon::text
