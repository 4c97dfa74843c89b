// A regular expression of a tokenizer file, matched by PCRE2. Files write them for Oniguruma (Ruby syntax); what means
// something else in PCRE2 is translated or refused. Matching is bounded: a pattern that runs away is a UserError.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace vbon::text {

struct Match {
  std::size_t begin, end;  // bytes
};

// Working memory of one thread's searches.
class MatchScratch {
 public:
  MatchScratch();
  void* data() const { return data_.get(); }

 private:
  std::unique_ptr<void, void (*)(void*)> data_;
};

class Pattern {
 public:
  // UserError naming `place` if the expression is not valid or not supported.
  Pattern(std::string_view expression, const std::string& place);
  static Pattern literal(std::string_view text, const std::string& place);

  // Appends all matches in `text` (valid UTF-8) from left to right; an empty match never follows another directly.
  void find_all(std::string_view text, MatchScratch& scratch, std::vector<Match>& matches) const;
  std::string replace_all(std::string_view text, std::string_view replacement) const;

 private:
  struct Compiled;
  Pattern(std::shared_ptr<const Compiled> compiled, std::string_view shown);
  std::shared_ptr<const Compiled> compiled_;
  std::string shown_;  // the expression, for messages
};

// The PCRE2 expression for an Oniguruma one; throws UserError naming `place` for what has no counterpart.
std::string translated_expression(std::string_view expression, const std::string& place);

}  // namespace vbon::text
