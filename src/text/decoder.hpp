// `decoder` of tokenizer.json: tokens to text. A Sequence is its parts in order; no decoder joins tokens by blanks.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "text/json_view.hpp"
#include "text/normalizer.hpp"

namespace vbon::text {

struct ByteLevelDecoder {};
struct ByteFallbackDecoder {};
struct FuseDecoder {};
struct BpeDecoder {
  std::string suffix;
};
struct WordPieceDecoder {
  std::string prefix;
  bool cleanup;
};
struct StripDecoder {
  char32_t content;
  std::size_t start, stop;
};

class Decoder {
 public:
  Decoder() = default;
  explicit Decoder(const JsonView& json) { add(json, 0); }
  std::string decode(std::vector<std::string> tokens) const;

 private:
  using Step = std::variant<ByteLevelDecoder, ByteFallbackDecoder, FuseDecoder, BpeDecoder, WordPieceDecoder,
                            StripDecoder, Replace>;
  void add(const JsonView& json, int depth);
  std::vector<Step> steps_;
  bool present_ = false;
};

}  // namespace vbon::text
