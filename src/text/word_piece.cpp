#include "text/word_piece.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "text/unicode.hpp"

namespace vbon::text {

WordPiece::WordPiece(const JsonView& json)
    : vocabulary_(json.at("vocab")), prefix_(json.string_or("continuing_subword_prefix", "##")) {
  const auto limit = json.find("max_input_chars_per_word");
  max_characters_ = limit ? static_cast<std::size_t>(limit->integer(0, INT32_MAX)) : 100;
  const std::string unknown = json.string_or("unk_token", "[UNK]");
  const auto id = vocabulary_.id(unknown);
  if (!id) json.fail(fmt::format("the vocabulary lacks the unk_token '{}'", unknown));
  unknown_ = *id;
}

void WordPiece::tokenize(std::string_view word, std::vector<std::int32_t>& ids) const {
  if (count_code_points(word) > max_characters_) return ids.push_back(unknown_);
  const std::size_t first = ids.size();
  std::string piece;
  for (std::size_t begin = 0; begin < word.size();) {
    piece.assign(begin == 0 ? "" : prefix_);
    const std::size_t prefix = piece.size();
    std::size_t length = std::min(word.size() - begin, vocabulary_.longest());
    // No cut inside a character.
    const auto inside = [&]() {
      return begin + length < word.size() && (static_cast<unsigned char>(word[begin + length]) & 0xC0) == 0x80;
    };
    piece.append(word.substr(begin, length));
    std::int32_t found = -1;
    for (; length > 0 && found < 0; --length) {
      if (inside()) continue;
      piece.resize(prefix + length);
      if (const auto id = vocabulary_.id(piece)) {
        found = *id;
        break;
      }
    }
    if (found < 0) {
      ids.resize(first);
      return ids.push_back(unknown_);
    }
    ids.push_back(found);
    begin += length;
  }
}

}  // namespace vbon::text
