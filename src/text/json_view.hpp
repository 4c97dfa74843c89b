// A JSON value together with its place in its file, so that every complaint names both.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vbon::text {

// Does not own the value: the parsed document outlives it.
class JsonView {
 public:
  JsonView(const nlohmann::json& value, std::string file, std::string path = {})
      : value_(&value), file_(std::move(file)), path_(std::move(path)) {}

  const nlohmann::json& value() const { return *value_; }
  std::string place() const;  // "X/tokenizer.json: model.vocab"

  JsonView at(std::string_view key) const;                   // UserError if it is missing
  std::optional<JsonView> find(std::string_view key) const;  // nothing if missing or null
  JsonView element(std::size_t index) const;                 // of an array that has it
  std::vector<JsonView> elements() const;                    // of an array; UserError if it is none
  std::string type() const { return at("type").string(); }   // what every component has

  std::string string() const;
  bool boolean() const;
  std::int64_t integer(std::int64_t low, std::int64_t high) const;
  bool boolean_or(std::string_view key, bool fallback) const;
  std::string string_or(std::string_view key, const std::string& fallback) const;

  [[noreturn]] void fail(const std::string& what) const;  // UserError "place: what"
  // "pre_tokenizer 'Metaspace' is not supported; supported: …"
  [[noreturn]] void unsupported(std::string_view kind, std::string_view name, std::string_view supported) const;

 private:
  const nlohmann::json* value_;
  std::string file_, path_;
};

// Components nest by 'Sequence'; deeper than this is no real file.
inline constexpr int kMaxNesting = 16;
inline constexpr std::size_t kMaxSteps = 64;  // of a normalizer or decoder, which may each lengthen a text

}  // namespace vbon::text
