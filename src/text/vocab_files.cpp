#include "text/vocab_files.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "text/json_view.hpp"
#include "text/special_tokens.hpp"
#include "text/unicode.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/json.hpp"
#include "vbon/base/words.hpp"

namespace vbon::text {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kMaxFileBytes = std::uint64_t{256} << 20;
constexpr const char* kConfig = "tokenizer_config.json";

enum class Layout { gpt2, bert };

std::string how_to(const fs::path& folder) {
  return fmt::format(
      "read are tokenizer.json, vocab.json with merges.txt (GPT2Tokenizer) and vocab.txt (BertTokenizer, "
      "DistilBertTokenizer); make tokenizer.json where transformers is installed: python -c \"from transformers import "
      "AutoTokenizer as A; A.from_pretrained('{0}').save_pretrained('{0}')\"",
      folder.string());
}

// The class that the folder names for its tokenizer, without "Fast"; empty if it names none.
std::string class_of(const fs::path& folder) {
  const auto without_fast = [](std::string name) {
    if (name.ends_with("Fast")) name.resize(name.size() - 4);
    return name;
  };
  const Json config = read_object(folder, kConfig), model = read_object(folder, "config.json");
  const JsonView config_view(config, (folder / kConfig).string()), model_view(model, (folder / "config.json").string());
  for (const JsonView& view : {config_view, model_view})
    if (const auto name = view.find("tokenizer_class")) return without_fast(name->string());
  const std::string type = model_view.string_or("model_type", "");
  if (type == "gpt2") return "GPT2Tokenizer";
  if (type == "bert" || type == "distilbert") return "BertTokenizer";
  return type.empty() ? "" : fmt::format("tokenizer of model_type {}", type);
}

std::optional<Layout> layout_of(const fs::path& folder) {
  const bool gpt2 = fs::exists(folder / "vocab.json") && fs::exists(folder / "merges.txt");
  const bool bert = fs::exists(folder / "vocab.txt");
  if (!gpt2 && !bert) return std::nullopt;
  const std::string name = class_of(folder);
  if (gpt2 && (name == "GPT2Tokenizer" || name.empty())) return Layout::gpt2;
  if (bert && (name == "BertTokenizer" || name == "DistilBertTokenizer" || name.empty())) return Layout::bert;
  throw UserError("'{}' has {}, but its tokenizer is a {}; {}", folder.string(),
                  gpt2 ? "vocab.json and merges.txt" : "vocab.txt", name, how_to(folder));
}

// Calls `use` for each line, cut as the reference cuts: at "\n" and "\r\n" alone, since tokens may hold other breaks.
void for_lines(const fs::path& path, const std::function<void(std::string_view place, std::string_view line)>& use) {
  const std::string bytes = read_file(path, kMaxFileBytes);
  std::size_t number = 1;
  for (std::size_t at = 0; at < bytes.size(); ++number) {
    const std::size_t end = bytes.find('\n', at);
    std::string_view line = std::string_view(bytes).substr(at, end == std::string::npos ? end : end - at);
    if (end != std::string::npos && line.ends_with('\r')) line.remove_suffix(1);
    const std::string place = fmt::format("{}:{}", path.string(), number);
    require(is_valid_utf8(line), "{}: not valid UTF-8", place);
    use(place, line);
    at = end == std::string::npos ? bytes.size() : end + 1;
  }
}

Json read_vocab_json(const fs::path& path) {
  Json vocab = parse_json(read_file(path, kMaxFileBytes), "'" + path.string() + "'");
  require(vocab.is_object(), "'{}' holds no JSON object of tokens and ids", path.string());
  std::vector<const std::string*> owners(vocab.size(), nullptr);
  for (const auto& [token, id] : vocab.items()) {
    require(id.is_number_unsigned() && id.get<std::uint64_t>() < owners.size(),
            "'{}': the id {} of token '{}' is not a whole number from 0 to {}; the ids of {} tokens have no gaps",
            path.string(), id.dump(), token, owners.size() - 1, owners.size());
    const std::string*& owner = owners[id.get<std::size_t>()];
    require(owner == nullptr, "'{}': the tokens '{}' and '{}' have the same id {}", path.string(),
            owner == nullptr ? "" : *owner, token, id.dump());
    owner = &token;
  }
  return vocab;
}

Json read_merges(const fs::path& path, const Json& vocab) {
  Json merges = Json::array();
  for_lines(path, [&](std::string_view place, std::string_view line) {
    if (line.starts_with("#version")) return;
    const std::vector<std::string> pair = split(line, ' ');
    require(pair.size() == 2, "{}: two tokens with one blank between them are needed here, not '{}'", place, line);
    for (const std::string& token : {pair[0], pair[1], pair[0] + pair[1]})
      require(vocab.contains(token), "{}: the rule '{}' needs the token '{}', which vocab.json lacks", place, line,
              token);
    merges.push_back(line);
  });
  return merges;
}

Json read_vocab_txt(const fs::path& path) {
  Json vocab = Json::object();
  for_lines(path, [&](std::string_view place, std::string_view line) {
    while (!line.empty()) {
      const CodePoint last = code_point_before(line, line.size());
      if (!is_white_space(last.value)) break;
      line.remove_suffix(last.length);
    }
    require(!line.empty(), "{}: an empty line; each line holds one token, and its place is the token's id", place);
    const auto [known, fresh] = vocab.emplace(line, vocab.size());
    require(fresh, "{}: the token '{}' stands in line {}, too", place, line, fresh ? 0 : known->get<int>() + 1);
  });
  return vocab;
}

// The template of one text with these tokens, where given, at its ends.
Json around_text(const JsonView& config, const SpecialTokens& tokens, const std::optional<std::string>& before,
                 const std::optional<std::string>& after) {
  Json single = Json::array(), special = Json::object();
  const auto add = [&](const std::optional<std::string>& token) {
    if (!token) return;
    require(!token->empty(), "'{}': the token before or after a text is empty", config.place());
    single.push_back({{"SpecialToken", {{"id", *token}, {"type_id", 0}}}});
    special[*token] = {{"id", *token}, {"ids", Json::array({tokens.id(*token)})}};
  };
  add(before);
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  add(after);
  return {{"type", "TemplateProcessing"}, {"single", std::move(single)}, {"special_tokens", std::move(special)}};
}

Json gpt2_description(const fs::path& folder, const JsonView& config) {
  Json vocab = read_vocab_json(folder / "vocab.json");
  Json merges = read_merges(folder / "merges.txt", vocab);
  const ByRole<std::string> defaults = {{"<|endoftext|>", "<|endoftext|>", "<|endoftext|>"}};
  SpecialTokens tokens = read_special_tokens(folder, config.value(), defaults, vocab);
  const auto if_asked = [&](const char* key, Role role) {
    return config.boolean_or(key, false) ? tokens[role] : std::nullopt;
  };
  Json post = around_text(config, tokens, if_asked("add_bos_token", Role::bos), if_asked("add_eos_token", Role::eos));
  return {{"added_tokens", std::move(tokens.added)},
          {"pre_tokenizer",
           {{"type", "ByteLevel"},
            {"add_prefix_space", config.boolean_or("add_prefix_space", false)},
            {"use_regex", true}}},
          {"post_processor", std::move(post)},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", std::move(vocab)}, {"merges", std::move(merges)}}}};
}

// WordPiece's decoder; and what transformers does to the whole text afterwards, if the folder asks for it.
Json bert_decoder(bool clean_up) {
  Json pieces = {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}};
  if (!clean_up) return pieces;
  Json steps = Json::array({std::move(pieces), {{"type", "Fuse"}}});
  for (const std::string from : {" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're"})
    steps.push_back({{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", trimmed(from)}});
  return {{"type", "Sequence"}, {"decoders", std::move(steps)}};
}

Json bert_description(const fs::path& folder, const JsonView& config) {
  const fs::path path = folder / "vocab.txt";
  Json vocab = read_vocab_txt(path);
  const ByRole<std::string> defaults = {{{}, {}, "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"}};
  SpecialTokens tokens = read_special_tokens(folder, config.value(), defaults, vocab);
  for (const Role role : {Role::unk, Role::cls, Role::sep})
    require(tokens[role].has_value(), "'{}': {} is null; such a tokenizer needs one", config.place(),
            kRoleKeys[static_cast<std::size_t>(role)]);
  require(vocab.contains(*tokens[Role::unk]), "'{}' lacks the token for unknown words, '{}'", path.string(),
          *tokens[Role::unk]);
  const auto strip_accents = config.find("strip_accents");
  Json post = around_text(config, tokens, tokens[Role::cls], tokens[Role::sep]);
  Json model = {{"type", "WordPiece"}, {"unk_token", *tokens[Role::unk]}, {"vocab", std::move(vocab)}};
  return {{"added_tokens", std::move(tokens.added)},
          {"normalizer",
           {{"type", "BertNormalizer"},
            {"clean_text", true},
            {"handle_chinese_chars", config.boolean_or("tokenize_chinese_chars", true)},
            {"strip_accents", strip_accents ? Json(strip_accents->boolean()) : Json()},
            {"lowercase", config.boolean_or("do_lower_case", true)}}},
          {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
          {"post_processor", std::move(post)},
          {"decoder", bert_decoder(config.boolean_or("clean_up_tokenization_spaces", false))},
          {"model", std::move(model)}};
}

}  // namespace

std::vector<std::string> vocab_files(const fs::path& folder) {
  const auto layout = layout_of(folder);
  if (!layout) return {};
  std::vector<std::string> names;
  for (const char* name : {"added_tokens.json", "special_tokens_map.json", kConfig})
    if (fs::exists(folder / name)) names.emplace_back(name);
  if (*layout == Layout::gpt2) names.insert(names.end(), {"vocab.json", "merges.txt"});
  else names.emplace_back("vocab.txt");
  std::sort(names.begin(), names.end());
  return names;
}

Json describe_vocab_files(const fs::path& folder) {
  const auto layout = layout_of(folder);
  if (!layout) {
    std::vector<std::string> there;
    for (const char* name : {"vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"})
      if (fs::exists(folder / name)) there.emplace_back(name);
    throw UserError("'{}' has no tokenizer.json{}; {}", folder.string(),
                    there.empty() ? "" : fmt::format(", only {}", joined(there)), how_to(folder));
  }
  const Json file = read_object(folder, kConfig);
  const JsonView config(file, (folder / kConfig).string());
  return *layout == Layout::gpt2 ? gpt2_description(folder, config) : bert_description(folder, config);
}

}  // namespace vbon::text
