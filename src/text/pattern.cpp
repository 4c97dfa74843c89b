#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pattern.hpp"

#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "text/unicode.hpp"
#include "vbon/base/error.hpp"

namespace vbon::text {
namespace {

// PCRE2's own \s also has U+180E, its \w also letter-like numbers but no marks. Oniguruma's \w has the superscripts and
// fractions of Latin-1, and of later blocks none.
constexpr std::string_view kWhiteSpace =
    "\\x{09}-\\x{0D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}"
    "\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}";
constexpr std::string_view kWord =
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}"
    "\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}";

constexpr std::size_t kMaxExpressionBytes = 1 << 16;
constexpr std::size_t kMaxNestedGroups = 100;
constexpr std::size_t kMaxReplacedBytes = std::size_t{1} << 28;

std::string error_text(int code) {
  std::array<PCRE2_UCHAR, 256> buffer = {};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

using Code = std::unique_ptr<pcre2_code, void (*)(pcre2_code*)>;

Code compile(std::string_view expression, int& error, std::size_t& offset) {
  const std::unique_ptr<pcre2_compile_context, void (*)(pcre2_compile_context*)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  if (!context) throw EnvironmentError("out of memory while compiling a pattern");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), kMaxNestedGroups);
  constexpr std::uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  return {pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(), kOptions, &error, &offset,
                        context.get()),
          pcre2_code_free};
}

// Rewrites one expression from left to right.
class Translator {
 public:
  Translator(std::string_view in, const std::string& place) : in_(in), place_(place) {}

  std::string run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') escape();
      else if (in_class_) class_character(c);
      else if (c == '[') open_class();
      else plain(c);
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    throw UserError("{}: the pattern '{}' uses {}, which is not supported", place_, in_, what);
  }

  void take(std::size_t count) {
    out_.append(in_.substr(at_, count));
    at_ += count;
  }

  void escape() {
    const char c = at_ + 1 < in_.size() ? in_[at_ + 1] : '\0';
    const auto set = [&](std::string_view members, bool negative) {
      if (in_class_ && negative) refuse("\\W inside a character class");
      out_ += in_class_ ? std::string(members) : fmt::format("[{}{}]", negative ? "^" : "", members);
      at_ += 2;
    };
    switch (c) {
      case 's': return set(kWhiteSpace, false);
      case 'w': return set(kWord, false);
      case 'S': return in_class_ ? not_white_space() : set(kWhiteSpace, true);
      case 'W': return set(kWord, true);
      case 'h':
      case 'H':
      case 'g':
      case 'k':
      case 'Q':
      case 'E':
      case 'y':
      case 'Y':
      case 'M': refuse(fmt::format("\\{}", c));
      case 'p':
      case 'P': return property();
      default: take(std::min<std::size_t>(2, in_.size() - at_));
    }
  }

  // \S inside a class: the ranges between the white space characters.
  void not_white_space() {
    out_ +=
        "\\x{0}-\\x{8}\\x{E}-\\x{1F}\\x{21}-\\x{84}\\x{86}-\\x{9F}\\x{A1}-\\x{167F}\\x{1681}-\\x{1FFF}"
        "\\x{200B}-\\x{2027}\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}\\x{3001}-\\x{D7FF}"
        "\\x{E000}-\\x{10FFFF}";
    at_ += 2;
  }

  // \p{Han} means the script; PCRE2 would take the script extensions.
  void property() {
    const std::size_t close = in_.find('}', at_);
    if (at_ + 2 >= in_.size() || in_[at_ + 2] != '{' || close == std::string_view::npos) return take(2);
    const std::string_view name = in_.substr(at_ + 3, close - at_ - 3);
    const std::string as_script = fmt::format("\\{}{{sc:{}}}", in_[at_ + 1], name);
    int error = 0;
    std::size_t offset = 0;
    if (name.size() > 2 && name.find(':') == std::string_view::npos && compile(as_script, error, offset)) {
      out_ += as_script;
      at_ = close + 1;
    } else {
      take(close + 1 - at_);
    }
  }

  void open_class() {
    in_class_ = true;
    take(1);
    if (at_ < in_.size() && in_[at_] == '^') take(1);
    if (at_ < in_.size() && in_[at_] == ']') refuse("']' as the first member of a character class");
  }

  void class_character(char c) {
    if (c == '[') {
      const std::size_t close = in_.substr(at_).starts_with("[:") ? in_.find(":]", at_) : std::string_view::npos;
      if (close == std::string_view::npos) refuse("a character class inside another");
      return take(close + 2 - at_);
    }
    if (c == '&' && in_.substr(at_).starts_with("&&")) refuse("'&&' (intersection of character classes)");
    if (c == ']') in_class_ = false;
    take(1);
  }

  void plain(char c) {
    if (c == '(' && in_.substr(at_).starts_with("(*")) refuse("'(*'");
    if (c == '(' && in_.substr(at_).starts_with("(?")) {
      for (std::size_t k = at_ + 2;
           k < in_.size() && (std::isalpha(static_cast<unsigned char>(in_[k])) || in_[k] == '-'); ++k)
        if (in_[k] != 'i' && in_[k] != '-') refuse(fmt::format("'(?{}'", in_[k]));
    }
    take(1);
  }

  std::string_view in_;
  const std::string& place_;
  std::string out_;
  std::size_t at_ = 0;
  bool in_class_ = false;
};

}  // namespace

std::string translated_expression(std::string_view expression, const std::string& place) {
  return Translator(expression, place).run();
}

MatchScratch::MatchScratch()
    : data_(pcre2_match_data_create(1, nullptr),
            [](void* data) { pcre2_match_data_free(static_cast<pcre2_match_data*>(data)); }) {
  if (!data_) throw EnvironmentError("out of memory while matching a pattern");
}

struct Pattern::Compiled {
  Code code{nullptr, pcre2_code_free};
  std::unique_ptr<pcre2_match_context, void (*)(pcre2_match_context*)> context{pcre2_match_context_create(nullptr),
                                                                               pcre2_match_context_free};
  bool jit = false;
};

Pattern::Pattern(std::shared_ptr<const Compiled> compiled, std::string_view shown)
    : compiled_(std::move(compiled)), shown_(shown) {}

Pattern::Pattern(std::string_view expression, const std::string& place) : shown_(expression) {
  require(expression.size() <= kMaxExpressionBytes, "{}: the pattern has {} bytes; at most {} are accepted", place,
          expression.size(), kMaxExpressionBytes);
  const std::string translated = translated_expression(expression, place);
  auto made = std::make_shared<Compiled>();
  int error = 0;
  std::size_t offset = 0;
  made->code = compile(translated, error, offset);
  require(made->code != nullptr, "{}: the pattern '{}' cannot be compiled: {} at offset {}", place, expression,
          error_text(error), offset);
  if (!made->context) throw EnvironmentError("out of memory while compiling a pattern");
  made->jit = pcre2_jit_compile(made->code.get(), PCRE2_JIT_COMPLETE) == 0;
  pcre2_set_heap_limit(made->context.get(), 1 << 18);  // KiB
  compiled_ = std::move(made);
}

Pattern Pattern::literal(std::string_view text, const std::string& place) {
  std::string escaped;
  for (const char c : text) {
    if (std::ispunct(static_cast<unsigned char>(c))) escaped += '\\';
    escaped += c;
  }
  return {escaped, place};
}

void Pattern::find_all(std::string_view text, MatchScratch& scratch, std::vector<Match>& matches) const {
  auto* const data = static_cast<pcre2_match_data*>(scratch.data());
  const auto* const subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const auto search = [&](std::size_t from) {
    int found = PCRE2_ERROR_JIT_STACKLIMIT;
    if (compiled_->jit)
      found = pcre2_jit_match(compiled_->code.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK, data,
                              compiled_->context.get());
    if (found == PCRE2_ERROR_JIT_STACKLIMIT)  // the interpreter keeps its state on the heap
      found = pcre2_match(compiled_->code.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data,
                          compiled_->context.get());
    if (found >= 0) return true;
    require(found == PCRE2_ERROR_NOMATCH, "the tokenizer's pattern '{}' fails on a text of {} bytes: {}", shown_,
            text.size(), error_text(found));
    return false;
  };
  std::size_t from = 0;
  std::size_t last_end = std::string_view::npos;
  while (from <= text.size() && !text.empty() && search(from)) {
    const auto* const bounds = pcre2_get_ovector_pointer(data);
    const Match match = {bounds[0], bounds[1]};
    check(match.begin >= from && match.begin <= match.end && match.end <= text.size(), "a match outside its text");
    if (match.begin == match.end && match.end == last_end) {
      from += from < text.size() ? code_point_at(text, from).length : 1;
      continue;
    }
    matches.push_back(match);
    from = last_end = match.end;
  }
}

std::string Pattern::replace_all(std::string_view text, std::string_view replacement) const {
  MatchScratch scratch;
  std::vector<Match> matches;
  find_all(text, scratch, matches);
  std::size_t bytes = text.size();
  require(!__builtin_add_overflow(bytes, matches.size() * replacement.size(), &bytes) && bytes <= kMaxReplacedBytes,
          "the tokenizer's pattern '{}' makes a text of {} bytes too long", shown_, text.size());
  std::string out;
  std::size_t at = 0;
  for (const Match& match : matches) {
    out.append(text.substr(at, match.begin - at)).append(replacement);
    at = match.end;
  }
  return out.append(text.substr(at));
}

}  // namespace vbon::text
