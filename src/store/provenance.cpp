#include "vbon/store/provenance.hpp"

#include <array>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "store/strict_json.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/words.hpp"

namespace vbon {
namespace {

// The texts that are left out when empty, with their attributes' names.
template <class Self, class Visit>
void for_each_optional_text(Self& provenance, Visit&& visit) {
  visit("run_id", provenance.run_id);
  visit("reference_sha256", provenance.reference_sha256);
  visit("tokenizer_sha256", provenance.tokenizer_sha256);
  visit("reward_sha256", provenance.reward_sha256);
  visit("evaluator_sha256", provenance.evaluator_sha256);
  visit("prompts_sha256", provenance.prompts_sha256);
  visit("pool_sha256", provenance.pool_sha256);
  visit("start_token", provenance.start_token);
  visit("forced", provenance.forced);
}

template <class T>
void read_if_there(const H5Group& root, const char* name, T& value) {
  if (root.has_attribute(name)) value = root.attribute<T>(name);
}

std::map<std::string, std::string> parse_versions(const std::string& text, const fs::path& path) {
  const std::string what = "attribute 'library_versions' of '" + path.string() + "'";
  const nlohmann::json versions = parse_strict_json(text, 1, what);
  require(versions.is_object(), "{} is no JSON object", what);
  std::map<std::string, std::string> parsed;
  for (const auto& [name, version] : versions.items()) {
    require(version.is_string(), "{} holds texts only", what);
    parsed[name] = version.get<std::string>();
  }
  return parsed;
}

}  // namespace

void write_provenance(H5Group& root, std::string_view format, std::int64_t schema_version,
                      const Provenance& provenance) {
  root.write_attribute("format", std::string(format));
  root.write_attribute("schema_version", schema_version);
  root.write_attribute("created_utc", provenance.created_utc.empty() ? utc_now() : provenance.created_utc);
  root.write_attribute("vbon_version", provenance.vbon_version);
  root.write_attribute("config", provenance.config);
  root.write_attribute("seed", provenance.seed);
  root.write_attribute("attempt", provenance.attempt);
  root.write_attribute("dtype", provenance.dtype);
  root.write_attribute("threads_per_rank", provenance.threads_per_rank);
  root.write_attribute("device", provenance.device);
  nlohmann::json versions = provenance.library_versions;
  versions["hdf5"] = hdf5_version();
  root.write_attribute("library_versions", versions.dump());
  for_each_optional_text(provenance, [&](const char* name, const std::string& text) {
    if (!text.empty()) root.write_attribute(name, text);
  });
}

Provenance read_provenance(const H5Group& root) {
  Provenance provenance;
  read_if_there(root, "created_utc", provenance.created_utc);
  read_if_there(root, "vbon_version", provenance.vbon_version);
  read_if_there(root, "config", provenance.config);
  read_if_there(root, "seed", provenance.seed);
  read_if_there(root, "attempt", provenance.attempt);
  read_if_there(root, "dtype", provenance.dtype);
  read_if_there(root, "threads_per_rank", provenance.threads_per_rank);
  read_if_there(root, "device", provenance.device);
  if (root.has_attribute("library_versions"))
    provenance.library_versions = parse_versions(root.attribute<std::string>("library_versions"), root.path());
  for_each_optional_text(provenance, [&](const char* name, std::string& text) { read_if_there(root, name, text); });
  return provenance;
}

std::string check_matches(const fs::path& file, std::span<const Comparison> comparisons, bool force,
                          std::string_view remedy) {
  std::vector<std::string> differences;
  for (const auto& [what, expected, found] : comparisons)
    if (!expected.empty() && expected != found)
      differences.push_back(fmt::format("{}: {} here, {} in the file", what, expected, found.empty() ? "none" : found));
  if (differences.empty()) return "";
  const std::string list = joined(differences, "; ");
  require(force, "'{}' was made with something else: {}. {}, or use it all the same with --force", file.string(), list,
          remedy);
  log::warn("'{}' was made with something else, used by --force: {}", file.string(), list);
  return list;
}

}  // namespace vbon
