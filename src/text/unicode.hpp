// Code points of valid UTF-8: reading, writing, the properties that tokenizers ask for, lower case, normal forms.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace vbon::text {

struct CodePoint {
  char32_t value;
  std::size_t length;  // bytes
};

// The code point that starts at byte `at`; `text` is valid UTF-8 and `at` the start of one.
inline CodePoint code_point_at(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t k) { return static_cast<unsigned char>(text[at + k]); };
  const char32_t first = byte(0);
  if (first < 0x80) return {first, 1};
  const auto next = [&](std::size_t k) { return char32_t{byte(k)} & 0x3Fu; };
  if (first < 0xE0) return {((first & 0x1Fu) << 6) | next(1), 2};
  if (first < 0xF0) return {((first & 0x0Fu) << 12) | (next(1) << 6) | next(2), 3};
  return {((first & 0x07u) << 18) | (next(1) << 12) | (next(2) << 6) | next(3), 4};
}

// The code point that ends before byte `end` > 0.
CodePoint code_point_before(std::string_view text, std::size_t end);
void append_code_point(std::string& text, char32_t code);
std::size_t count_code_points(std::string_view text);
bool is_ascii(std::string_view text);
// Valid UTF-8: each maximal invalid part becomes U+FFFD.
std::string lossy_utf8(std::string_view bytes);

bool is_white_space(char32_t code);  // property White_Space
bool is_numeric(char32_t code);      // categories Nd, Nl, No
bool is_mark(char32_t code);         // categories Mn, Mc, Me
bool is_word(char32_t code);         // \w of Unicode TS #18: alphabetic, marks, decimal digits, connectors, joiners
void append_lower(std::string& text, char32_t code);

enum class Form { nfc, nfd, nfkc, nfkd };
std::string normal_form(std::string_view text, Form form);

}  // namespace vbon::text
