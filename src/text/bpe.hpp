// The BPE model: a word starts as its characters; of the neighbouring pairs that have a merge rule, the one with the
// earliest rule (of equals, the leftmost) is joined, until no rule applies.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/json_view.hpp"
#include "text/vocabulary.hpp"

namespace vbon::text {

class Bpe {
 public:
  // `words_are_bytes`: words come as raw bytes, each to be read as its byte-level character.
  Bpe(const JsonView& json, bool words_are_bytes);
  const Vocabulary& vocabulary() const { return vocabulary_; }
  void tokenize(std::string_view word, std::vector<std::int32_t>& ids) const;  // appends

 private:
  struct Rule {
    std::uint64_t pair = kNoPair;
    std::int32_t rank = 0;
    std::int32_t result = 0;
  };
  static constexpr std::uint64_t kNoPair = ~std::uint64_t{0};

  void read_rules(const JsonView& merges);
  void insert_rule(std::int32_t left, std::int32_t right, std::int32_t rank, std::int32_t result);
  void find_whole_words();
  const Rule* rule(std::int32_t left, std::int32_t right) const;
  void characters(std::string_view word, std::vector<std::int32_t>& ids) const;
  void unknown_character(std::string_view character, bool& pending, std::vector<std::int32_t>& ids) const;
  void merge_from(std::size_t begin, std::vector<std::int32_t>& ids) const;
  void merge_few(std::size_t begin, std::vector<std::int32_t>& ids) const;
  void merge_many(std::size_t begin, std::vector<std::int32_t>& ids) const;

  Vocabulary vocabulary_;
  bool words_are_bytes_;
  bool fuse_unknown_, byte_fallback_, ignore_merges_;
  std::string unknown_name_;                // empty: characters without a token vanish, as in the reference
  std::int32_t unknown_ = -1;               // -1: the vocabulary lacks it; an error once it is needed
  std::array<std::int32_t, 256> byte_ids_;  // by byte: its byte-level character's id, or -1
  std::array<std::int32_t, 256> fallback_;  // by byte: the id of <0xXX>, or -1
  std::vector<Rule> rules_;                 // open addressing; the size is a power of two
  int rule_shift_ = 0;                      // a pair's hash is the top bits of a product
  std::deque<std::string> word_texts_;      // what whole_words_ views
  std::unordered_map<std::string_view, std::int32_t> whole_words_;  // words that become this one token
};

}  // namespace vbon::text
