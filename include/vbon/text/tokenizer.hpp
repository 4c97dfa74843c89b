// Text <-> token ids by a Hugging Face folder's tokenizer.json, id for id as the reference library does it: byte-level
// BPE (GPT-2, GPT-NeoX, Llama-3, SmolLM2 patterns), BPE with byte fallback, WordPiece (BERT).
//
// A component that the file asks for and that is not implemented is a UserError which names it. `truncation` and
// `padding` blocks of the file are ignored: callers set lengths. Chat templates and tokenizer_config.json are not read.
// Unicode properties are those of the linked PCRE2 and utf8proc: letters that newer Unicode versions added may split
// differently from the reference until those libraries know them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vbon {

struct EncodeOptions {
  bool add_special_tokens = true;  // what the post-processor adds around the text ([CLS], <s>, …)
  bool parse_special = true;       // false: a special token's text inside `text` is ordinary text
};

struct DecodeOptions {
  bool skip_special_tokens = true;
};

struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool special = false;      // left out by decode() unless asked for
  bool single_word = false;  // matches only between non-word characters
  bool lstrip = false;       // swallows white space on its left
  bool rstrip = false;       // … on its right
  bool normalized = true;    // matched after the normalizer, not before
};

// Immutable and cheap to copy (copies share the tables); every member may be called from any thread.
class Tokenizer {
 public:
  // Reads folder/tokenizer.json.
  static Tokenizer load(const std::filesystem::path& folder);
  // The same from the file's bytes; `name` stands for the file in messages.
  static Tokenizer parse(std::string_view json, const std::string& name);

  // Invalid UTF-8 is read as the reference's lossy reading would: each maximal invalid part is U+FFFD (readers of data
  // files refuse such text earlier). At most 1 GiB.
  std::vector<std::int32_t> encode(std::string_view text, const EncodeOptions& options = {}) const;
  // Ids without a token (a padded embedding has more rows than tokens) decode to nothing, as in the reference.
  std::string decode(std::span<const std::int32_t> ids, const DecodeOptions& options = {}) const;

  std::int32_t vocab_size() const;  // largest id + 1: what an embedding must have at least
  std::optional<std::int32_t> id(std::string_view token) const;
  std::optional<std::string> token(std::int32_t id) const;
  const std::vector<AddedToken>& added_tokens() const;  // ascending ids
  bool is_special(std::int32_t id) const;
  const std::string& sha256() const;  // of tokenizer.json's bytes, hex

 private:
  struct Parts;
  explicit Tokenizer(std::shared_ptr<const Parts> parts);
  std::shared_ptr<const Parts> parts_;
};

}  // namespace vbon
