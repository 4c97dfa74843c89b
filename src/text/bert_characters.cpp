#include "text/bert_characters.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <array>

namespace vbon::text {
namespace {

struct Range {
  char32_t first, last;
};

// Holds every control, mark and punctuation character that is newer than Unicode 8, and none that is not (letters
// between them do not matter here). tests/golden/text/make_bert_characters.py prints it.
constexpr std::array kNewer = {
    Range{0x61D, 0x61D},     Range{0x7FD, 0x7FD},     Range{0x890, 0x8E2},     Range{0x9FD, 0x9FE},
    Range{0xA76, 0xA76},     Range{0xAFA, 0xAFF},     Range{0xB55, 0xB55},     Range{0xC04, 0xC3C},
    Range{0xC77, 0xC77},     Range{0xC84, 0xC84},     Range{0xD00, 0xD00},     Range{0xD3B, 0xD3C},
    Range{0xD81, 0xD81},     Range{0xEBA, 0xEBA},     Range{0xECE, 0xECE},     Range{0x180F, 0x1886},
    Range{0x1ABF, 0x1ACE},   Range{0x1B7D, 0x1B7E},   Range{0x1DF6, 0x1DFB},   Range{0x2E43, 0x2E5D},
    Range{0xA82C, 0xA82C},   Range{0xA8C5, 0xA8C5},   Range{0xA8FF, 0xA8FF},   Range{0xA9BD, 0xA9BD},
    Range{0x10D24, 0x10F89}, Range{0x11070, 0x11074}, Range{0x110C2, 0x110CD}, Range{0x111CF, 0x111CF},
    Range{0x1123E, 0x11241}, Range{0x1133B, 0x1133B}, Range{0x11438, 0x1145E}, Range{0x11660, 0x1166C},
    Range{0x116B9, 0x116B9}, Range{0x1182F, 0x11FFF}, Range{0x12FF1, 0x13455}, Range{0x16E97, 0x16F4F},
    Range{0x16FE2, 0x16FE4}, Range{0x1CF00, 0x1CF46}, Range{0x1E000, 0x1E4EF}, Range{0x1E944, 0x1E95F},
};

// Characters whose category changed after Unicode 8.
constexpr char32_t kCanadianChiSign = 0x166D;     // was Po
constexpr char32_t kSharadaSandhiMark = 0x111C9;  // was Po
constexpr char32_t kHanunooPamudpod = 0x1734;     // was Mn

bool newer(char32_t code) {
  const auto after = std::upper_bound(kNewer.begin(), kNewer.end(), code,
                                      [](char32_t value, const Range& range) { return value < range.first; });
  return after != kNewer.begin() && code <= std::prev(after)->last;
}

utf8proc_category_t category(char32_t code) {
  return newer(code) ? UTF8PROC_CATEGORY_CN : utf8proc_category(static_cast<utf8proc_int32_t>(code));
}

bool in(char32_t code, char32_t first, char32_t last) { return code >= first && code <= last; }

}  // namespace

bool is_bert_control(char32_t code) {
  if (code == '\t' || code == '\n' || code == '\r') return false;
  if (code < 0x80) return code < 0x20 || code == 0x7F;
  const utf8proc_category_t c = category(code);
  return c == UTF8PROC_CATEGORY_CC || c == UTF8PROC_CATEGORY_CF || c == UTF8PROC_CATEGORY_CO;
}

bool is_bert_punctuation(char32_t code) {
  if (code < 0x80) return in(code, '!', '/') || in(code, ':', '@') || in(code, '[', '`') || in(code, '{', '~');
  if (code == kCanadianChiSign || code == kSharadaSandhiMark) return true;
  const utf8proc_category_t c = category(code);
  return c >= UTF8PROC_CATEGORY_PC && c <= UTF8PROC_CATEGORY_PO;
}

bool is_bert_accent(char32_t code) {
  if (code < 0x300 || code == kSharadaSandhiMark) return false;
  return code == kHanunooPamudpod || category(code) == UTF8PROC_CATEGORY_MN;
}

bool is_bert_ideograph(char32_t code) {
  return in(code, 0x4E00, 0x9FFF) || in(code, 0x3400, 0x4DBF) || in(code, 0x20000, 0x2A6DF) ||
         in(code, 0x2A700, 0x2B81F) || in(code, 0x2B920, 0x2CEAF) || in(code, 0xF900, 0xFAFF) ||
         in(code, 0x2F800, 0x2FA1F);
}

}  // namespace vbon::text
