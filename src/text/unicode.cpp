#include "text/unicode.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "vbon/base/error.hpp"

namespace vbon::text {
namespace {

utf8proc_category_t category(char32_t code) { return utf8proc_category(static_cast<utf8proc_int32_t>(code)); }

bool in(char32_t code, char32_t first, char32_t last) { return code >= first && code <= last; }

// How many bytes of `bytes` make a code point (valid) or the longest start of one (not valid).
struct Part {
  std::size_t length;
  bool valid;
};

Part first_part(std::string_view bytes) {
  const auto byte = [&](std::size_t k) { return static_cast<unsigned char>(bytes[k]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return {1, true};
  if (first < 0xC2 || first > 0xF4) return {1, false};
  const std::size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  // The second byte's range is narrower after these: no overlong forms, surrogates or codes past U+10FFFF.
  const unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  if (bytes.size() < 2 || byte(1) < low || byte(1) > high) return {1, false};
  for (std::size_t k = 2; k < length; ++k)
    if (k >= bytes.size() || (byte(k) & 0xC0) != 0x80) return {k, false};
  return {length, true};
}

// Canonical order: within each run of marks by combining class, stable. (The library's own pass is quadratic.)
void order_marks(std::vector<utf8proc_int32_t>& codes) {
  const auto combining = [](utf8proc_int32_t code) { return utf8proc_get_property(code)->combining_class; };
  for (std::size_t begin = 0; begin < codes.size();) {
    if (codes[begin] < 0x300 || combining(codes[begin]) == 0) {
      ++begin;
      continue;
    }
    std::size_t end = begin + 1;
    while (end < codes.size() && combining(codes[end]) != 0) ++end;
    std::stable_sort(codes.begin() + static_cast<std::ptrdiff_t>(begin),
                     codes.begin() + static_cast<std::ptrdiff_t>(end),
                     [&](utf8proc_int32_t a, utf8proc_int32_t b) { return combining(a) < combining(b); });
    begin = end;
  }
}

std::vector<utf8proc_int32_t> decomposed(std::string_view text, bool compatible) {
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> codes;
  codes.reserve(text.size());
  std::array<utf8proc_int32_t, 32> parts;  // the longest decomposition in Unicode has 18
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text, at);
    at += point.length;
    int boundary = 0;
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(point.value), parts.data(),
                                               static_cast<utf8proc_ssize_t>(parts.size()), options, &boundary);
    check(count >= 0 && count <= static_cast<utf8proc_ssize_t>(parts.size()), "utf8proc_decompose_char failed");
    codes.insert(codes.end(), parts.begin(), parts.begin() + count);
  }
  order_marks(codes);
  return codes;
}

}  // namespace

CodePoint code_point_before(std::string_view text, std::size_t end) {
  std::size_t begin = end - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return code_point_at(text, begin);
}

void append_code_point(std::string& text, char32_t code) {
  const auto push = [&](char32_t byte) { text += static_cast<char>(static_cast<unsigned char>(byte)); };
  if (code < 0x80) {
    push(code);
  } else if (code < 0x800) {
    push(0xC0 | (code >> 6));
    push(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    push(0xE0 | (code >> 12));
    push(0x80 | ((code >> 6) & 0x3F));
    push(0x80 | (code & 0x3F));
  } else {
    push(0xF0 | (code >> 18));
    push(0x80 | ((code >> 12) & 0x3F));
    push(0x80 | ((code >> 6) & 0x3F));
    push(0x80 | (code & 0x3F));
  }
}

std::size_t count_code_points(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

std::string lossy_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    const Part part = first_part(bytes);
    if (part.valid) text.append(bytes.substr(0, part.length));
    else text += "\xEF\xBF\xBD";
    bytes.remove_prefix(part.length);
  }
  return text;
}

bool is_white_space(char32_t code) {
  if (code < 0x80) return code == ' ' || in(code, 0x09, 0x0D);
  return code == 0x85 || code == 0xA0 || code == 0x1680 || in(code, 0x2000, 0x200A) || code == 0x2028 ||
         code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

bool is_numeric(char32_t code) {
  if (code < 0x80) return in(code, '0', '9');
  const utf8proc_category_t c = category(code);
  return c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_NO;
}

bool is_mark(char32_t code) {
  if (code < 0x300) return false;
  const utf8proc_category_t c = category(code);
  return c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_MC || c == UTF8PROC_CATEGORY_ME;
}

bool is_word(char32_t code) {
  if (code < 0x80) return code == '_' || in(code, '0', '9') || in(code | 0x20, 'a', 'z');
  // Alphabetic symbols (circled and squared letters) and the two joiners.
  if (in(code, 0x24B6, 0x24E9) || in(code, 0x1F130, 0x1F149) || in(code, 0x1F150, 0x1F169) ||
      in(code, 0x1F170, 0x1F189) || in(code, 0x200C, 0x200D))
    return true;
  switch (category(code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return false;
  }
}

void append_lower(std::string& text, char32_t code) {
  if (code < 0x80) {
    text += static_cast<char>(in(code, 'A', 'Z') ? code | 0x20 : code);
  } else if (code == 0x130) {
    text += "i\xCC\x87";  // the one letter whose unconditional lower case is two code points
  } else {
    append_code_point(text, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))));
  }
}

std::string normal_form(std::string_view text, Form form) {
  if (is_ascii(text)) return std::string(text);
  std::vector<utf8proc_int32_t> codes = decomposed(text, form == Form::nfkc || form == Form::nfkd);
  std::size_t length = codes.size();
  if (form == Form::nfc || form == Form::nfkc) {
    const auto composed = utf8proc_normalize_utf32(codes.data(), static_cast<utf8proc_ssize_t>(codes.size()),
                                                   static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
    check(composed >= 0, "utf8proc_normalize_utf32 failed");
    length = static_cast<std::size_t>(composed);
  }
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < length; ++i) append_code_point(out, static_cast<char32_t>(codes[i]));
  return out;
}

}  // namespace vbon::text
