// Text <-> token ids by a Hugging Face folder's tokenizer.json, id for id as the reference library does it: byte-level
// BPE (GPT-2, GPT-NeoX, Llama-3, SmolLM2 patterns), BPE with byte fallback, WordPiece (BERT). A folder without it may
// have the vocabulary files of GPT-2 or BERT: text/vocab_files.hpp.
//
// A component that the file asks for and that is not implemented is a UserError which names it. `truncation` and
// `padding` blocks of the file are ignored: callers set lengths. Chat templates are not read; beside a tokenizer.json
// tokenizer_config.json is not, either.
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

// The names of the files of `folder` that decide its tokenizer, in name order: tokenizer.json, or else vocabulary files
// and their settings. Empty if none are there; UserError if they are those of a tokenizer that is not supported.
std::vector<std::string> tokenizer_sources(const std::filesystem::path& folder);

// Immutable and cheap to copy (copies share the tables); every member may be called from any thread.
class Tokenizer {
 public:
  // Reads tokenizer_sources(folder); UserError if there are none.
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
  // Hex: of tokenizer.json's bytes; of vocabulary files over "NAME SHA-256-of-the-file\n" in name order.
  const std::string& sha256() const;

 private:
  struct Parts;
  explicit Tokenizer(std::shared_ptr<const Parts> parts);
  std::shared_ptr<const Parts> parts_;
};

}  // namespace vbon
