// Checked look-ups in a model's JSON files: errors name the file and the key. For the model layer's own .cpp files.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/json.hpp"

namespace vbon {

using Json = nlohmann::json;

// A JSON object of a model folder, with the file's name for messages.
class JsonObject {
 public:
  JsonObject(Json value, std::string where) : value_(std::move(value)), where_(std::move(where)) {
    require(value_.is_object(), "'{}' must hold a JSON object", where_);
  }
  static JsonObject read(const std::filesystem::path& path) {
    return parse(read_file(path, std::uint64_t{16} << 20), path.string());
  }
  static JsonObject parse(const std::string& text, const std::string& where) {
    return {parse_json(text, "'" + where + "'"), where};
  }

  const std::string& where() const { return where_; }
  const Json& value() const { return value_; }
  bool has(const char* key) const { return value_.contains(key) && !value_[key].is_null(); }

  std::int64_t integer(const char* key) const {
    need(key);
    return integer(key, 0);
  }
  std::int64_t integer(const char* key, std::int64_t fallback) const {
    if (!has(key)) return fallback;
    require(value_[key].is_number_integer(), "'{}': '{}' must be an integer", where_, key);
    return value_[key].get<std::int64_t>();
  }
  // A size: at least 1 and no larger than any real model's.
  std::int64_t size(const char* key) const {
    need(key);
    return size(key, 0);
  }
  std::int64_t size(const char* key, std::int64_t fallback) const {
    const std::int64_t value = integer(key, fallback);
    require(value >= 1 && value <= (std::int64_t{1} << 24), "'{}': '{}' is {}, which is no size of a model", where_,
            key, value);
    return value;
  }
  double number(const char* key, double fallback) const {
    if (!has(key)) return fallback;
    require(value_[key].is_number(), "'{}': '{}' must be a number", where_, key);
    return value_[key].get<double>();
  }
  bool flag(const char* key, bool fallback) const {
    if (!has(key)) return fallback;
    require(value_[key].is_boolean(), "'{}': '{}' must be true or false", where_, key);
    return value_[key].get<bool>();
  }
  std::string text(const char* key, const std::string& fallback) const {
    if (!has(key)) return fallback;
    require(value_[key].is_string(), "'{}': '{}' must be a string", where_, key);
    return value_[key].get<std::string>();
  }
  // An integer or a list of them.
  std::vector<std::int32_t> ids(const char* key) const {
    std::vector<std::int32_t> result;
    if (!has(key)) return result;
    const Json& entry = value_[key];
    for (const Json& item : entry.is_array() ? entry : Json::array({entry})) {
      const bool fits = item.is_number_integer() && item >= 0 && item <= std::numeric_limits<std::int32_t>::max();
      require(fits, "'{}': '{}' must be a token id or a list of them", where_, key);
      result.push_back(item.get<std::int32_t>());
    }
    return result;
  }

 private:
  void need(const char* key) const { require(has(key), "'{}' has no '{}'", where_, key); }
  Json value_;
  std::string where_;
};

}  // namespace vbon
