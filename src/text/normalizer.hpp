// `normalizer` of tokenizer.json: text to text, before anything is cut. A Sequence is its parts in order.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/json_view.hpp"
#include "text/pattern.hpp"
#include "text/unicode.hpp"

namespace vbon::text {

struct Lowercase {};
struct StripAccents {};
struct StripBlanks {
  bool left, right;
};
struct Prepend {
  std::string text;
};
struct Replace {
  Pattern pattern;
  std::string content;
};
struct BertNormalizer {
  bool clean_text, handle_chinese_chars, strip_accents, lowercase;
};

class Normalizer {
 public:
  Normalizer() = default;
  explicit Normalizer(const JsonView& json) { add(json, 0); }
  bool empty() const { return steps_.empty(); }
  std::string apply(std::string_view text) const;

 private:
  using Step = std::variant<Form, Lowercase, StripAccents, StripBlanks, Prepend, Replace, BertNormalizer>;
  void add(const JsonView& json, int depth);
  std::vector<Step> steps_;
};

// {"String": …} or {"Regex": …}, as Replace and Split have it.
Pattern read_pattern(const JsonView& json);

}  // namespace vbon::text
