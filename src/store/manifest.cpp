#include "store/manifest.hpp"

#include <algorithm>
#include <cctype>
#include <limits>
#include <set>

#include "store/strict_json.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/words.hpp"

namespace vbon {
namespace {

constexpr std::uint64_t kMaxBytes = std::uint64_t{64} << 20;
constexpr std::string_view kFormat = "vbon.checkpoint";
constexpr std::int64_t kSchema = 1;

// Checked access to one JSON object of a file.
class Reader {
 public:
  Reader(const nlohmann::json& object, std::string where) : object_(object), where_(std::move(where)) {
    require(object_.is_object(), "{} is no JSON object", where_);
  }
  const nlohmann::json& at(const char* name) const {
    require(object_.contains(name), "{} has no '{}'", where_, name);
    return object_[name];
  }
  std::string text(const char* name) const {
    require(at(name).is_string(), "{}: '{}' is no text", where_, name);
    return at(name).get<std::string>();
  }
  std::int64_t count(const char* name) const {
    require(at(name).is_number_unsigned() && at(name).get<std::uint64_t>() < (std::uint64_t{1} << 62),
            "{}: '{}' is no count", where_, name);
    return at(name).get<std::int64_t>();
  }
  const nlohmann::json& list(const char* name) const {
    require(at(name).is_array(), "{}: '{}' is no list", where_, name);
    return at(name);
  }
  const nlohmann::json& map(const char* name) const {
    require(at(name).is_object(), "{}: '{}' is no object", where_, name);
    return at(name);
  }
  const std::string& where() const { return where_; }

 private:
  const nlohmann::json& object_;
  std::string where_;
};

nlohmann::json parse(const fs::path& path) {
  return parse_strict_json(read_file(path, kMaxBytes), 4, "'" + path.string() + "'");
}

bool is_sha256(const std::string& text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(),
                                          [](unsigned char c) { return std::isdigit(c) || (c >= 'a' && c <= 'f'); });
}

std::string part_name(const nlohmann::json& value, const std::string& where) {
  require(value.is_string() && is_part_name(value.get_ref<const std::string&>()),
          "{} names {}, which is no file of a checkpoint", where,
          value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  return value.get<std::string>();
}

CheckpointPart parse_part(const nlohmann::json& value, const std::string& where) {
  const Reader part(value, "a part in " + where);
  CheckpointPart parsed{part_name(part.at("name"), where), static_cast<std::uint64_t>(part.count("bytes")),
                        part.text("sha256")};
  require(is_sha256(parsed.sha256), "{}: the SHA-256 of '{}' is none", where, parsed.name);
  return parsed;
}

}  // namespace

bool is_part_name(const std::string& name) {
  if (name.empty() || name.size() > 200) return false;
  const std::vector<std::string> components = split(name, '/');
  const auto plain = [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-' || c == '.'; };
  return components.size() <= 3 && std::all_of(components.begin(), components.end(), [&](const std::string& component) {
           return !component.empty() && component.front() != '.' &&
                  std::all_of(component.begin(), component.end(), plain);
         });
}

std::string manifest_text(const Manifest& manifest) {
  nlohmann::ordered_json json = {{"format", kFormat},
                                 {"schema_version", kSchema},
                                 {"step", manifest.step},
                                 {"created_utc", manifest.created_utc},
                                 {"run_id", manifest.run_id},
                                 {"attempt", manifest.attempt},
                                 {"config_sha256", manifest.config_sha256},
                                 {"world_size", manifest.world_size},
                                 {"environment", manifest.environment},
                                 {"metrics", manifest.metrics},
                                 {"parts", nlohmann::ordered_json::array()}};
  for (const CheckpointPart& part : manifest.parts)
    json["parts"].push_back({{"name", part.name}, {"bytes", part.bytes}, {"sha256", part.sha256}});
  return json.dump(2) + "\n";
}

Manifest read_manifest(const fs::path& path) {
  const nlohmann::json json = parse(path);
  const Reader reader(json, "'" + path.string() + "'");
  require(reader.text("format") == kFormat, "{} is no manifest of a checkpoint", reader.where());
  require(reader.count("schema_version") <= kSchema, "{} was written by a newer program", reader.where());
  Manifest manifest;
  manifest.step = reader.count("step");
  manifest.created_utc = reader.text("created_utc");
  manifest.run_id = reader.text("run_id");
  manifest.attempt = reader.count("attempt");
  manifest.config_sha256 = reader.text("config_sha256");
  manifest.world_size = reader.count("world_size");
  for (const auto& [name, value] : reader.map("environment").items()) {
    require(value.is_string(), "{}: environment holds texts", reader.where());
    manifest.environment[name] = value.get<std::string>();
  }
  for (const auto& [name, value] : reader.map("metrics").items()) {
    require(value.is_number() || value.is_null(), "{}: metrics holds numbers", reader.where());
    manifest.metrics[name] = value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
  }
  std::set<std::string> names;
  for (const auto& value : reader.list("parts")) {
    manifest.parts.push_back(parse_part(value, reader.where()));
    require(names.insert(manifest.parts.back().name).second, "{} names '{}' twice", reader.where(),
            manifest.parts.back().name);
  }
  require(!manifest.parts.empty(), "{} names no parts", reader.where());
  return manifest;
}

std::string plan_text(std::span<const std::string> part_names) {
  return nlohmann::ordered_json{{"format", "vbon.checkpoint_plan"},
                                {"parts", std::vector<std::string>(part_names.begin(), part_names.end())}}
             .dump(2) +
         "\n";
}

std::vector<std::string> read_plan(const fs::path& path) {
  const nlohmann::json json = parse(path);
  const Reader reader(json, "'" + path.string() + "'");
  require(reader.text("format") == "vbon.checkpoint_plan", "{} is no plan of a checkpoint", reader.where());
  std::vector<std::string> names;
  for (const auto& value : reader.list("parts")) names.push_back(part_name(value, reader.where()));
  return names;
}

}  // namespace vbon
