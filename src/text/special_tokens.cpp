#include "text/special_tokens.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "text/json_view.hpp"
#include "text/vocabulary.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/json.hpp"

namespace vbon::text {
namespace {

using Json = nlohmann::json;

struct Token {
  std::string content;
  bool special = true, single_word = false, lstrip = false, rstrip = false;
  std::optional<bool> normalized = {};  // none: as special tokens are not and others are
  bool declared = false;                // a token of this content in added_tokens.json is special
};

// A string, or {"content", "lstrip", …}; `special`: what such an object is taken for if it does not say.
Token read_token(const JsonView& json, bool special) {
  if (json.value().is_string()) return {.content = json.string(), .declared = true};
  if (!json.value().is_object()) json.fail("a string or an object with 'content' is needed here");
  Token token{.content = json.at("content").string(),
              .special = json.boolean_or("special", special),
              .single_word = json.boolean_or("single_word", false),
              .lstrip = json.boolean_or("lstrip", false),
              .rstrip = json.boolean_or("rstrip", false)};
  if (const auto normalized = json.find("normalized")) token.normalized = normalized->boolean();
  return token;
}

// What the folder says besides its vocabulary.
struct Declared {
  ByRole<Token> named;
  std::vector<Token> extra;
  std::map<std::int64_t, std::pair<Token, std::string>> numbered;  // by id, with the place in its file
};

void read_named(const JsonView& json, bool special_map, ByRole<Token>& named) {
  for (const auto& [key, value] : json.value().items()) {
    const auto role = std::find(kRoleKeys.begin(), kRoleKeys.end(), key);
    if (role != kRoleKeys.end()) {
      auto& token = named[static_cast<std::size_t>(role - kRoleKeys.begin())];
      token.reset();
      if (value.is_null()) continue;
      token = read_token(json.at(key), special_map);
      token->declared |= special_map;
    } else if (key.ends_with("_token") && value.is_string()) {
      json.at(key).fail("a special token of this kind is read from tokenizer.json only");
    }
  }
}

// True if the key is there.
bool read_extra(const JsonView& json, const char* key, bool declared, std::vector<Token>& extra) {
  if (!json.value().contains(key)) return false;
  if (const auto tokens = json.find(key))
    for (const JsonView& one : tokens->elements()) {
      extra.push_back(read_token(one, declared));
      extra.back().declared |= declared;
    }
  return true;
}

void read_decoder(const JsonView& json, Declared& declared) {
  if (!json.value().is_object()) json.fail("an object of ids and tokens is needed here");
  for (const auto& [key, value] : json.value().items()) {
    std::int64_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    const JsonView entry = json.at(key);
    if (error != std::errc() || end != key.data() + key.size()) entry.fail("the key must be an id");
    declared.numbered[id] = {read_token(entry, false), entry.place()};
  }
}

void read_added_tokens(const JsonView& json, Declared& declared) {
  std::set<std::string> special;
  for (const auto& token : declared.named)
    if (token && token->declared) special.insert(token->content);
  for (const Token& token : declared.extra)
    if (token.declared) special.insert(token.content);
  for (const auto& [content, value] : json.value().items()) {
    const JsonView entry = json.at(content);
    const std::int64_t id = entry.integer(0, kMaxTokenId);
    const bool is_special = special.contains(content);
    const Token token{.content = content, .special = is_special, .normalized = !is_special};
    if (!declared.numbered.emplace(id, std::pair(token, entry.place())).second)
      entry.fail(fmt::format("the token '{}' has the id {}, too", declared.numbered.at(id).first.content, id));
  }
}

Declared read_declared(const std::filesystem::path& folder, const Json& config, const ByRole<std::string>& defaults) {
  Declared declared;
  for (std::size_t k = 0; k < defaults.size(); ++k)
    if (defaults[k]) declared.named[k] = Token{.content = *defaults[k]};
  const JsonView settings(config, (folder / "tokenizer_config.json").string());
  read_named(settings, false, declared.named);
  bool has_extra = read_extra(settings, "extra_special_tokens", false, declared.extra) ||
                   read_extra(settings, "additional_special_tokens", false, declared.extra);
  if (const auto decoder = settings.find("added_tokens_decoder")) {
    read_decoder(*decoder, declared);
    return declared;  // with it the other two files count for nothing
  }
  const Json map_file = read_object(folder, "special_tokens_map.json");
  const JsonView map(map_file, (folder / "special_tokens_map.json").string());
  read_named(map, true, declared.named);
  has_extra |= read_extra(map, "extra_special_tokens", true, declared.extra);
  std::vector<Token> additional;
  read_extra(map, "additional_special_tokens", true, additional);
  const Json added_file = read_object(folder, "added_tokens.json");
  read_added_tokens({added_file, (folder / "added_tokens.json").string()}, declared);
  if (!has_extra) declared.extra = std::move(additional);
  return declared;
}

Json described(const Token& token, std::int64_t id) {
  return {{"id", id},
          {"content", token.content},
          {"special", token.special},
          {"single_word", token.single_word},
          {"lstrip", token.lstrip},
          {"rstrip", token.rstrip},
          {"normalized", token.normalized.value_or(!token.special)}};
}

}  // namespace

std::int32_t SpecialTokens::id(const std::string& content) const {
  const auto found =
      std::find_if(added.begin(), added.end(), [&](const Json& t) { return t.at("content") == content; });
  check(found != added.end(), "named tokens are added tokens");
  return found->at("id").get<std::int32_t>();
}

SpecialTokens read_special_tokens(const std::filesystem::path& folder, const Json& config,
                                  const ByRole<std::string>& defaults, const Json& vocab) {
  Declared declared = read_declared(folder, config, defaults);
  SpecialTokens result{.added = Json::array()};
  std::set<std::string> named, numbered;
  for (std::size_t k = 0; k < kRoleKeys.size(); ++k) {
    if (!declared.named[k]) continue;
    result.named[k] = declared.named[k]->content;
    named.insert(declared.named[k]->content);
  }

  std::map<std::string, std::size_t> places;  // in result.added
  auto next_id = static_cast<std::int64_t>(vocab.size());
  std::set<Json> seen;
  // A token that comes again as it was counts once; with other flags it is what it was last, but is looked for (before
  // or after the normalizer) as it was first: so the reference does. Returns its id.
  const auto add = [&](Token token) {
    token.special |= named.contains(token.content);
    const auto [place, fresh] = places.emplace(token.content, result.added.size());
    const auto known = vocab.find(token.content);
    const std::int64_t id = !fresh                 ? result.added[place->second].at("id").get<std::int64_t>()
                            : known != vocab.end() ? known->get<std::int64_t>()
                                                   : next_id++;
    Json now = described(token, id);
    if (!seen.insert(now).second) return id;
    if (fresh) {
      result.added.push_back(std::move(now));
    } else {
      Json& old = result.added[place->second];
      const bool was_special = old.at("special").get<bool>();
      require((was_special && token.special) || now.at("normalized") == old.at("normalized"),
              "'{}' gives the token '{}' twice: matched before the normalizer, and after it", folder.string(),
              token.content);
      now["normalized"] = old.at("normalized");
      now["special"] = was_special || token.special;
      old = std::move(now);
    }
    return id;
  };
  for (const auto& [id, entry] : declared.numbered) {
    const auto& [token, place] = entry;
    if (token.content.empty()) continue;
    numbered.insert(token.content);
    const std::int64_t given = add(token);
    require(given == id,
            "{}: the token '{}' has the id {}, but {} is its id in the vocabulary or the next free one; mend the file, "
            "or make tokenizer.json",
            place, token.content, id, given);
  }
  const auto add_other = [&](const Token& token) {
    if (!token.content.empty() && !numbered.contains(token.content)) add(token);
  };
  for (const auto& token : declared.named)
    if (token) add_other(*token);
  for (const Token& token : declared.extra) add_other(token);
  return result;
}

Json read_object(const std::filesystem::path& folder, const std::string& name) {
  const std::filesystem::path path = folder / name;
  if (!std::filesystem::exists(path)) return Json::object();
  Json object = parse_json(read_file(path), "'" + path.string() + "'");
  require(object.is_object(), "'{}' holds no JSON object", path.string());
  return object;
}

}  // namespace vbon::text
