// `pre_tokenizer` of tokenizer.json: cuts normalized text into pieces; the model tokenizes each by itself. A Sequence
// is its parts in order.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/json_view.hpp"
#include "text/pattern.hpp"

namespace vbon::text {

// Pieces of one text: views into the text, or into strings made on the way.
struct Pieces {
  std::vector<std::string_view> views;
  std::deque<std::string> made;
};

enum class Delimiter { removed, isolated, merged_with_previous, merged_with_next, contiguous };

struct ByteLevelStep {
  bool add_prefix_space;
  std::vector<Pattern> words;  // one: GPT-2's pattern; none: no cutting
};
struct DigitsStep {
  bool individual;
};
struct SplitStep {
  Pattern pattern;
  Delimiter delimiter;
  bool invert;
};
struct PunctuationStep {
  Delimiter delimiter;
};
struct WhiteSpaceStep {};  // WhitespaceSplit
struct BertStep {};

class PreTokenizer {
 public:
  PreTokenizer() = default;
  explicit PreTokenizer(const JsonView& json);

  // True: the last step is ByteLevel, and its pieces are left as bytes: the model reads each byte as its stand-in
  // character. (Writing those characters out and looking them up again would cost as much as all the rest.)
  bool yields_bytes() const { return yields_bytes_; }
  // Non-empty pieces of `text`, which must outlive them.
  void split(std::string_view text, MatchScratch& scratch, Pieces& pieces) const;

 private:
  using Step = std::variant<ByteLevelStep, DigitsStep, SplitStep, PunctuationStep, WhiteSpaceStep, BertStep>;
  void add(const JsonView& json, int depth);
  std::vector<Step> steps_;
  bool yields_bytes_ = false;
};

}  // namespace vbon::text
