#include "text/pre_tokenizer.hpp"

#include <algorithm>
#include <utility>

#include "text/bert_characters.hpp"
#include "text/byte_level.hpp"
#include "text/normalizer.hpp"
#include "text/unicode.hpp"

namespace vbon::text {
namespace {

constexpr std::string_view kGpt2Words = R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

struct Span {
  std::size_t begin, end;
  bool match;
};

// The whole text as spans that match and spans between, in order; some may be empty.
std::vector<Span> spans_of(std::string_view text, const std::vector<Match>& matches) {
  std::vector<Span> spans;
  spans.reserve(matches.size() * 2 + 1);
  std::size_t at = 0;
  for (const Match& match : matches) {
    if (match.begin > at) spans.push_back({at, match.begin, false});
    spans.push_back({match.begin, match.end, true});
    at = match.end;
  }
  if (at < text.size()) spans.push_back({at, text.size(), false});
  return spans;
}

// Joins neighbouring spans as the delimiter rule says and appends what is kept.
void cut(std::string_view text, std::vector<Span> spans, Delimiter delimiter, std::vector<std::string_view>& pieces) {
  std::vector<Span> kept;
  kept.reserve(spans.size());
  bool previous = false;
  const std::size_t count = spans.size();
  for (std::size_t k = 0; k < count; ++k) {
    const bool backwards = delimiter == Delimiter::merged_with_next;
    const Span span = spans[backwards ? count - 1 - k : k];
    const bool joins = delimiter == Delimiter::contiguous ? span.match == previous
                       : delimiter == Delimiter::merged_with_previous || delimiter == Delimiter::merged_with_next
                           ? span.match && !previous
                           : false;
    previous = span.match;
    if (delimiter == Delimiter::removed && span.match) continue;
    if (joins && !kept.empty()) (backwards ? kept.back().begin : kept.back().end) = backwards ? span.begin : span.end;
    else kept.push_back(span);
  }
  if (delimiter == Delimiter::merged_with_next) std::reverse(kept.begin(), kept.end());
  for (const Span& span : kept)
    if (span.begin < span.end) pieces.push_back(text.substr(span.begin, span.end - span.begin));
}

template <class Matches>
void cut_by_character(std::string_view text, Delimiter delimiter, Matches&& matches,
                      std::vector<std::string_view>& pieces) {
  std::vector<Match> found;
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text, at);
    if (matches(point.value)) found.push_back({at, at + point.length});
    at += point.length;
  }
  if (found.empty()) pieces.push_back(text);
  else cut(text, spans_of(text, found), delimiter, pieces);
}

// Each overload appends the parts of one piece.
struct Splitter {
  MatchScratch& scratch;
  std::deque<std::string>& made;
  std::vector<std::string_view>& out;
  std::vector<Match> matches = {};

  void operator()(const ByteLevelStep& step, std::string_view piece) {
    if (step.add_prefix_space && !piece.starts_with(' ')) piece = made.emplace_back(" " + std::string(piece));
    if (step.words.empty()) return out.push_back(piece);
    matches.clear();
    step.words.front().find_all(piece, scratch, matches);
    std::size_t at = 0;
    const auto push = [&](std::size_t begin, std::size_t end) {
      if (begin < end) out.push_back(piece.substr(begin, end - begin));
    };
    for (const Match& match : matches) {
      push(at, match.begin);
      push(match.begin, match.end);
      at = match.end;
    }
    push(at, piece.size());
  }
  void operator()(const DigitsStep& step, std::string_view piece) {
    cut_by_character(piece, step.individual ? Delimiter::isolated : Delimiter::contiguous, is_numeric, out);
  }
  void operator()(const SplitStep& step, std::string_view piece) {
    matches.clear();
    step.pattern.find_all(piece, scratch, matches);
    std::vector<Span> spans = spans_of(piece, matches);
    if (step.invert)
      for (Span& span : spans) span.match = !span.match;
    cut(piece, std::move(spans), step.delimiter, out);
  }
  void operator()(const PunctuationStep& step, std::string_view piece) {
    cut_by_character(piece, step.delimiter, is_bert_punctuation, out);
  }
  void operator()(WhiteSpaceStep, std::string_view piece) {
    cut_by_character(piece, Delimiter::removed, is_white_space, out);
  }
  void operator()(BertStep, std::string_view piece) {
    std::vector<std::string_view> words;
    cut_by_character(piece, Delimiter::removed, is_white_space, words);
    for (const std::string_view word : words) cut_by_character(word, Delimiter::isolated, is_bert_punctuation, out);
  }
};

Delimiter read_delimiter(const JsonView& json) {
  const std::string name = json.string();
  if (name == "Removed") return Delimiter::removed;
  if (name == "Isolated") return Delimiter::isolated;
  if (name == "MergedWithPrevious") return Delimiter::merged_with_previous;
  if (name == "MergedWithNext") return Delimiter::merged_with_next;
  if (name == "Contiguous") return Delimiter::contiguous;
  json.unsupported("behavior", name, "Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
}

}  // namespace

PreTokenizer::PreTokenizer(const JsonView& json) {
  add(json, 0);
  yields_bytes_ = !steps_.empty() && std::holds_alternative<ByteLevelStep>(steps_.back());
}

void PreTokenizer::add(const JsonView& json, int depth) {
  const std::string type = json.type();
  if (type == "Sequence") {
    if (depth >= kMaxNesting) json.fail("Sequences are nested too deeply");
    for (const JsonView& part : json.at("pretokenizers").elements()) add(part, depth + 1);
  } else if (type == "ByteLevel") {
    ByteLevelStep step{json.boolean_or("add_prefix_space", true), {}};
    if (json.boolean_or("use_regex", true)) step.words.emplace_back(kGpt2Words, json.place());
    steps_.emplace_back(std::move(step));
  } else if (type == "Digits") {
    steps_.emplace_back(DigitsStep{json.boolean_or("individual_digits", false)});
  } else if (type == "Split") {
    steps_.emplace_back(SplitStep{read_pattern(json.at("pattern")), read_delimiter(json.at("behavior")),
                                  json.boolean_or("invert", false)});
  } else if (type == "Punctuation") {
    const auto behavior = json.find("behavior");
    steps_.emplace_back(PunctuationStep{behavior ? read_delimiter(*behavior) : Delimiter::isolated});
  } else if (type == "Whitespace") {
    steps_.emplace_back(SplitStep{Pattern(R"(\w+|[^\w\s]+)", json.place()), Delimiter::removed, true});
  } else if (type == "WhitespaceSplit") {
    steps_.emplace_back(WhiteSpaceStep{});
  } else if (type == "BertPreTokenizer") {
    steps_.emplace_back(BertStep{});
  } else {
    json.unsupported("pre_tokenizer", type,
                     "ByteLevel, Digits, Split, Punctuation, Whitespace, WhitespaceSplit, BertPreTokenizer, Sequence");
  }
}

void PreTokenizer::split(std::string_view text, MatchScratch& scratch, Pieces& pieces) const {
  pieces.views.assign(1, text);
  if (text.empty()) pieces.views.clear();
  std::vector<std::string_view> next;
  for (std::size_t k = 0; k < steps_.size(); ++k) {
    next.clear();
    Splitter splitter{scratch, pieces.made, next};
    for (const std::string_view piece : pieces.views)
      std::visit([&](const auto& step) { splitter(step, piece); }, steps_[k]);
    const bool last = k + 1 == steps_.size();
    if (!last && std::holds_alternative<ByteLevelStep>(steps_[k]))
      for (std::string_view& piece : next) piece = pieces.made.emplace_back(byte_level(piece));
    std::swap(pieces.views, next);
  }
}

}  // namespace vbon::text
