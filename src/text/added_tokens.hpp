// `added_tokens` of tokenizer.json: tokens that are cut out of the text before the model sees it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "text/json_view.hpp"
#include "text/normalizer.hpp"
#include "text/vocabulary.hpp"
#include "vbon/text/tokenizer.hpp"

namespace vbon::text {

// Finds, at the leftmost place where one starts, the longest of some strings.
class StringMatcher {
 public:
  StringMatcher();
  void add(std::string_view text, std::size_t index);  // of equal texts the first added counts
  bool empty() const { return nodes_.size() == 1; }
  struct Found {
    std::size_t begin, end, index;
  };
  // The first match that starts at `from` or later; false if there is none.
  bool find(std::string_view text, std::size_t from, Found& found) const;

 private:
  struct Node {
    std::vector<std::pair<unsigned char, std::uint32_t>> next;
    std::int64_t index = -1;
  };
  std::vector<Node> nodes_;
  std::array<bool, 256> starts_ = {};
};

class AddedTokens {
 public:
  AddedTokens() = default;
  // Ids must be those that the reference would give; UserError otherwise.
  AddedTokens(const JsonView& json, const Vocabulary& vocabulary, const Normalizer& normalizer);

  const std::vector<AddedToken>& tokens() const { return tokens_; }  // ascending ids
  const AddedToken* find(std::int32_t id) const;
  const AddedToken* find(std::string_view content) const;
  bool is_special(std::string_view content) const { return special_.contains(std::string(content)); }
  std::int32_t end_id() const { return tokens_.empty() ? 0 : tokens_.back().id + 1; }

  // Calls text(part) and token(id) for the parts of `text` in order, by the tokens that match before the normalizer
  // (`normalized` false) or after it (true). parse_special false passes over special tokens.
  void split(std::string_view text, bool normalized, bool parse_special,
             const std::function<void(std::string_view)>& text_part,
             const std::function<void(std::int32_t)>& token) const;

 private:
  std::vector<AddedToken> tokens_;
  std::unordered_map<std::int32_t, std::size_t> by_id_;
  std::unordered_map<std::string, std::size_t> by_content_;
  std::unordered_set<std::string> special_;
  StringMatcher raw_, normalized_;
};

}  // namespace vbon::text
