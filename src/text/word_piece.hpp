// The WordPiece model: from the left, always the longest piece that the vocabulary has; a word that cannot be covered
// is one unknown token.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/json_view.hpp"
#include "text/vocabulary.hpp"

namespace vbon::text {

class WordPiece {
 public:
  explicit WordPiece(const JsonView& json);
  const Vocabulary& vocabulary() const { return vocabulary_; }
  void tokenize(std::string_view word, std::vector<std::int32_t>& ids) const;  // appends

 private:
  Vocabulary vocabulary_;
  std::string prefix_;  // of pieces that continue a word
  std::size_t max_characters_;
  std::int32_t unknown_;
};

}  // namespace vbon::text
