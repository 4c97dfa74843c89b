#include "text/added_tokens.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "text/unicode.hpp"

namespace vbon::text {
namespace {

constexpr std::size_t kMaxContentBytes = 1024;  // keeps the search for added tokens linear in the text

AddedToken read_token(const JsonView& json) {
  AddedToken token;
  token.id = static_cast<std::int32_t>(json.at("id").integer(0, kMaxTokenId));
  token.content = json.at("content").string();
  token.special = json.at("special").boolean();
  token.single_word = json.at("single_word").boolean();
  token.lstrip = json.at("lstrip").boolean();
  token.rstrip = json.at("rstrip").boolean();
  token.normalized = json.at("normalized").boolean();
  if (token.content.empty()) json.fail("an added token has no content");
  if (token.content.size() > kMaxContentBytes)
    json.fail(
        fmt::format("an added token has {} bytes; at most {} are accepted", token.content.size(), kMaxContentBytes));
  return token;
}

bool stands_alone(std::string_view text, std::size_t begin, std::size_t end) {
  return (begin == 0 || !is_word(code_point_before(text, begin).value)) &&
         (end == text.size() || !is_word(code_point_at(text, end).value));
}

std::size_t blanks_before(std::string_view text, std::size_t begin, std::size_t from) {
  while (begin > from) {
    const CodePoint point = code_point_before(text, begin);
    if (!is_white_space(point.value)) break;
    begin -= point.length;
  }
  return begin;
}

std::size_t blanks_after(std::string_view text, std::size_t end) {
  while (end < text.size()) {
    const CodePoint point = code_point_at(text, end);
    if (!is_white_space(point.value)) break;
    end += point.length;
  }
  return end;
}

}  // namespace

StringMatcher::StringMatcher() : nodes_(1) {}

void StringMatcher::add(std::string_view text, std::size_t index) {
  if (text.empty()) return;
  starts_[static_cast<unsigned char>(text.front())] = true;
  std::size_t node = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    auto& next = nodes_[node].next;
    const auto found = std::find_if(next.begin(), next.end(), [&](const auto& edge) { return edge.first == byte; });
    if (found != next.end()) {
      node = found->second;
    } else {
      next.emplace_back(byte, static_cast<std::uint32_t>(nodes_.size()));
      node = nodes_.size();
      nodes_.emplace_back();
    }
  }
  if (nodes_[node].index < 0) nodes_[node].index = static_cast<std::int64_t>(index);
}

bool StringMatcher::find(std::string_view text, std::size_t from, Found& found) const {
  for (std::size_t begin = from; begin < text.size(); ++begin) {
    if (!starts_[static_cast<unsigned char>(text[begin])]) continue;
    bool any = false;
    std::size_t node = 0;
    for (std::size_t at = begin; at < text.size(); ++at) {
      const auto& next = nodes_[node].next;
      const auto edge = std::find_if(next.begin(), next.end(),
                                     [&](const auto& e) { return e.first == static_cast<unsigned char>(text[at]); });
      if (edge == next.end()) break;
      node = edge->second;
      if (nodes_[node].index >= 0) {
        found = {begin, at + 1, static_cast<std::size_t>(nodes_[node].index)};
        any = true;
      }
    }
    if (any) return true;
  }
  return false;
}

AddedTokens::AddedTokens(const JsonView& json, const Vocabulary& vocabulary, const Normalizer& normalizer) {
  const std::vector<JsonView> entries = json.elements();
  std::int32_t next_id = vocabulary.size();
  for (const JsonView& entry : entries) {
    AddedToken token = read_token(entry);
    if (by_content_.contains(token.content)) entry.fail(fmt::format("the token '{}' is added twice", token.content));
    const std::int32_t expected = vocabulary.id(token.content).value_or(next_id);
    if (token.id != expected)
      entry.fail(
          fmt::format("the token '{}' has id {}, but {} is its id in the vocabulary or the next free one; the file "
                      "contradicts itself",
                      token.content, token.id, expected));
    if (expected == next_id) ++next_id;
    const std::string* const other = vocabulary.token(token.id);
    if (other != nullptr && *other != token.content)
      entry.fail(fmt::format("the tokens '{}' and '{}' have the same id {}", *other, token.content, token.id));
    by_content_.emplace(token.content, 0);
    if (token.special) special_.insert(token.content);
    tokens_.push_back(std::move(token));
  }
  std::sort(tokens_.begin(), tokens_.end(), [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  for (std::size_t k = 0; k < tokens_.size(); ++k) {
    by_id_.emplace(tokens_[k].id, k);
    by_content_[tokens_[k].content] = k;
  }
  for (const bool special : {true, false})  // where two normalize to the same text, the special one counts
    for (std::size_t k = 0; k < tokens_.size(); ++k) {
      const AddedToken& token = tokens_[k];
      if (token.special != special) continue;
      if (token.normalized) normalized_.add(normalizer.apply(token.content), k);
      else raw_.add(token.content, k);
    }
}

const AddedToken* AddedTokens::find(std::int32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &tokens_[found->second];
}

const AddedToken* AddedTokens::find(std::string_view content) const {
  const auto found = by_content_.find(std::string(content));
  return found == by_content_.end() ? nullptr : &tokens_[found->second];
}

void AddedTokens::split(std::string_view text, bool normalized, bool parse_special,
                        const std::function<void(std::string_view)>& text_part,
                        const std::function<void(std::int32_t)>& token_part) const {
  const StringMatcher& matcher = normalized ? normalized_ : raw_;
  std::size_t done = 0;
  if (!matcher.empty()) {
    StringMatcher::Found match = {};
    for (std::size_t from = 0; matcher.find(text, from, match); from = match.end) {
      const AddedToken& token = tokens_[match.index];
      if (token.special && !parse_special) continue;
      if (token.single_word && !stands_alone(text, match.begin, match.end)) continue;
      // Blanks that one token swallowed may begin the next: the reference then yields both tokens, and so do we.
      const std::size_t begin =
          token.lstrip ? blanks_before(text, match.begin, std::min(done, match.begin)) : match.begin;
      const std::size_t end = token.rstrip ? blanks_after(text, match.end) : match.end;
      if (done < begin) text_part(text.substr(done, begin - done));
      token_part(token.id);
      done = end;
    }
  }
  if (done < text.size()) text_part(text.substr(done));
}

}  // namespace vbon::text
