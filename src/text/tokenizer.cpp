#include "vbon/text/tokenizer.hpp"

#include <algorithm>
#include <functional>
#include <utility>
#include <variant>

#include "text/added_tokens.hpp"
#include "text/bpe.hpp"
#include "text/decoder.hpp"
#include "text/json_view.hpp"
#include "text/normalizer.hpp"
#include "text/post_processor.hpp"
#include "text/pre_tokenizer.hpp"
#include "text/vocab_files.hpp"
#include "text/word_piece.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/json.hpp"
#include "vbon/base/sha256.hpp"
#include "vbon/base/words.hpp"

namespace vbon {
namespace {

constexpr const char* kTokenizerFile = "tokenizer.json";
constexpr std::uint64_t kMaxFileBytes = std::uint64_t{256} << 20;
constexpr std::size_t kMaxTextBytes = std::size_t{1} << 30;

using Model = std::variant<text::Bpe, text::WordPiece>;

Model read_model(const text::JsonView& json, bool words_are_bytes) {
  // Files of the reference's first years leave the type out; what they hold tells.
  const std::string type = json.string_or("type", json.find("merges") ? "BPE" : "WordPiece");
  if (type == "BPE") return Model(std::in_place_type<text::Bpe>, json, words_are_bytes);
  if (type == "WordPiece") {
    if (words_are_bytes) json.fail("WordPiece after a ByteLevel pre_tokenizer is not supported");
    return Model(std::in_place_type<text::WordPiece>, json);
  }
  json.unsupported("model", type, "BPE, WordPiece");
}

}  // namespace

struct Tokenizer::Parts {
  std::string sha256;
  text::Normalizer normalizer;
  text::PreTokenizer pre_tokenizer;
  Model model;
  text::AddedTokens added;
  text::PostProcessor post_processor;
  text::Decoder decoder;

  // Of a description as tokenizer.json holds one; `name` stands for it in messages.
  static std::shared_ptr<const Parts> make(const nlohmann::json& description, const std::string& name,
                                           std::string sha256);
  const text::Vocabulary& vocabulary() const {
    return std::visit([](const auto& one) -> const text::Vocabulary& { return one.vocabulary(); }, model);
  }
  std::int32_t end_id() const { return std::max(vocabulary().end_id(), added.end_id()); }
  const std::string* token(std::int32_t id) const {
    const AddedToken* const one = added.find(id);
    return one != nullptr ? &one->content : vocabulary().token(id);
  }
  void append_text(std::string_view part, text::MatchScratch& scratch, std::vector<std::int32_t>& ids) const {
    text::Pieces pieces;
    pre_tokenizer.split(part, scratch, pieces);
    std::visit(
        [&](const auto& one) {
          for (const std::string_view piece : pieces.views) one.tokenize(piece, ids);
        },
        model);
  }
};

std::vector<std::string> tokenizer_sources(const std::filesystem::path& folder) {
  if (std::filesystem::exists(folder / kTokenizerFile)) return {kTokenizerFile};
  return text::vocab_files(folder);
}

Tokenizer::Tokenizer(std::shared_ptr<const Parts> parts) : parts_(std::move(parts)) {}

Tokenizer Tokenizer::load(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kTokenizerFile;
  require(std::filesystem::is_directory(folder), "'{}' is no folder; a Hugging Face model folder is needed",
          folder.string());
  if (std::filesystem::exists(path)) return parse(read_file(path, kMaxFileBytes), path.string());
  const nlohmann::json description = text::describe_vocab_files(folder);
  Sha256 hash;
  for (const std::string& name : tokenizer_sources(folder)) hash.update(name + " " + sha256_file(folder / name) + "\n");
  return Tokenizer(Parts::make(description, folder.string(), hash.hex()));
}

Tokenizer Tokenizer::parse(std::string_view bytes, const std::string& name) {
  return Tokenizer(Parts::make(parse_json(bytes, "'" + name + "'"), name, sha256_hex(bytes)));
}

std::shared_ptr<const Tokenizer::Parts> Tokenizer::Parts::make(const nlohmann::json& description,
                                                               const std::string& name, std::string sha256) {
  const text::JsonView json(description, name);
  const std::string version = json.string_or("version", "1.0");
  require(version == "1.0", "{}: the version is '{}'; this program reads version 1.0", name, version);

  const auto normalizer = json.find("normalizer");
  const auto pre_tokenizer = json.find("pre_tokenizer");
  text::Normalizer made_normalizer = normalizer ? text::Normalizer(*normalizer) : text::Normalizer();
  text::PreTokenizer made_pre = pre_tokenizer ? text::PreTokenizer(*pre_tokenizer) : text::PreTokenizer();
  Model model = read_model(json.at("model"), made_pre.yields_bytes());
  auto parts = std::make_shared<Parts>(
      Parts{std::move(sha256), std::move(made_normalizer), std::move(made_pre), std::move(model), {}, {}, {}});
  if (const auto added = json.find("added_tokens"))
    parts->added = text::AddedTokens(*added, parts->vocabulary(), parts->normalizer);
  require(parts->end_id() > 0, "{}: the vocabulary is empty", name);
  if (const auto post = json.find("post_processor"))
    parts->post_processor = text::PostProcessor(*post, parts->end_id());
  if (const auto decoder = json.find("decoder")) parts->decoder = text::Decoder(*decoder);
  return parts;
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  require(text.size() <= kMaxTextBytes, "a text of {} bytes is too long to tokenize; at most {} are accepted",
          text.size(), kMaxTextBytes);
  std::string repaired;
  if (!is_valid_utf8(text)) text = repaired = text::lossy_utf8(text);

  const Parts& parts = *parts_;
  std::vector<std::int32_t> ids;
  if (options.add_special_tokens) ids = parts.post_processor.before();
  text::MatchScratch scratch;
  const std::function<void(std::int32_t)> add_token = [&](std::int32_t id) { ids.push_back(id); };
  const std::function<void(std::string_view)> add_words = [&](std::string_view part) {
    parts.append_text(part, scratch, ids);
  };
  parts.added.split(
      text, false, options.parse_special,
      [&](std::string_view part) {
        if (parts.normalizer.empty()) return parts.added.split(part, true, options.parse_special, add_words, add_token);
        const std::string normalized = parts.normalizer.apply(part);
        parts.added.split(normalized, true, options.parse_special, add_words, add_token);
      },
      add_token);
  if (options.add_special_tokens) {
    const auto& after = parts.post_processor.after();
    ids.insert(ids.end(), after.begin(), after.end());
  }
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, const DecodeOptions& options) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const std::int32_t id : ids) {
    const std::string* const token = parts_->token(id);
    if (token == nullptr || (options.skip_special_tokens && parts_->added.is_special(*token))) continue;
    tokens.push_back(*token);
  }
  return parts_->decoder.decode(std::move(tokens));
}

std::int32_t Tokenizer::vocab_size() const { return parts_->end_id(); }

std::optional<std::int32_t> Tokenizer::id(std::string_view token) const {
  const AddedToken* const one = parts_->added.find(token);
  return one != nullptr ? std::optional(one->id) : parts_->vocabulary().id(token);
}

std::optional<std::string> Tokenizer::token(std::int32_t id) const {
  const std::string* const found = parts_->token(id);
  return found == nullptr ? std::nullopt : std::optional(*found);
}

const std::vector<AddedToken>& Tokenizer::added_tokens() const { return parts_->added.tokens(); }

bool Tokenizer::is_special(std::int32_t id) const {
  const AddedToken* const found = parts_->added.find(id);
  return found != nullptr && found->special;
}

const std::string& Tokenizer::sha256() const { return parts_->sha256; }

}  // namespace vbon
