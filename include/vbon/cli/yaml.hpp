// Configuration from YAML files and `-s section.key=value` into structs with field lists (base/fields.hpp), and back.
//
// `include: base.yaml` (or a list) names files to lay under this one, relative to it. Later wins: included files in
// order, the file itself, overrides in order; a list or map given to one key replaces it whole. `${NAME}` and
// `${NAME:-default}` in values are environment references (`$${` is a literal `${`): the struct holds what they stand
// for, the resolved text keeps the reference. Every error found is thrown in one UserError, a line each.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vbon/cli/binder.hpp"

namespace vbon {

using EnvironmentLookup = std::function<std::optional<std::string>(const std::string& name)>;
std::optional<std::string> process_environment(const std::string& name);

struct ConfigSources {
  std::filesystem::path file = {};          // empty: defaults and overrides alone
  std::vector<std::string> overrides = {};  // "sampling.temperature=0.7"; the value is YAML
  EnvironmentLookup environment = process_environment;
};

// Every key with its value as text, in field order, without secret keys; references unexpanded.
class ResolvedConfig {
 public:
  struct Entry {
    std::string path;
    std::string text;         // flow YAML
    bool is_default = false;  // as if nobody had given it; false below a map's names, which have no default
  };
  explicit ResolvedConfig(std::vector<Entry> entries) : entries_(std::move(entries)) {}

  const std::vector<Entry>& entries() const { return entries_; }
  std::string yaml() const;  // block YAML that loads again to an equal config (secret keys come back as defaults)
  // SHA-256 of the keys that are not at their defaults, outside of the sections (or single keys) named in `left_out`;
  // "!key" there takes one back in. So a later version's further keys leave the hash of a configuration as it was.
  std::string hash(std::span<const std::string> left_out = {}) const;

 private:
  std::vector<Entry> entries_;
};

// "sampling.temperature: 1.0 -> 0.7", a line for each key outside of `left_out` (as in hash) that is not the same in
// both.
std::vector<std::string> config_differences(const ResolvedConfig& before, const ResolvedConfig& after,
                                            std::span<const std::string> left_out = {});

template <class T>
struct LoadedConfig {
  T value;
  ResolvedConfig resolved;
  std::string resolved_yaml;  // resolved.yaml(): what is printed, saved and written into HDF5 files

  std::string hash(std::span<const std::string> left_out = {}) const { return resolved.hash(left_out); }
};

// References that a loaded config holds, by path: the node as it was written.
struct UnexpandedValue {
  std::string path;
  YamlNode node;
};

namespace detail {
std::vector<UnexpandedValue> load_fields(BoundFields fields, const ConfigSources& sources);
std::vector<UnexpandedValue> load_fields_text(BoundFields fields, std::string_view yaml, const std::string& name,
                                              const EnvironmentLookup& environment);
ResolvedConfig resolve_fields(const BoundFields& fields, std::span<const UnexpandedValue> unexpanded,
                              const BoundFields& defaults);
std::vector<std::string> missing_fields(const BoundFields& fields, std::span<const std::string> paths);

template <class T>
LoadedConfig<T> loaded(T value, std::span<const UnexpandedValue> unexpanded) {
  T defaults;
  ResolvedConfig resolved = resolve_fields(bind_fields(value), unexpanded, bind_fields(defaults));
  std::string yaml = resolved.yaml();
  return {.value = std::move(value), .resolved = std::move(resolved), .resolved_yaml = std::move(yaml)};
}
}  // namespace detail

template <Section T>
LoadedConfig<T> load_config(const ConfigSources& sources) {
  T value;
  const auto unexpanded = detail::load_fields(bind_fields(value), sources);
  return detail::loaded(std::move(value), unexpanded);
}

// From text that is no file of the user's (a run's config in an HDF5 attribute); `name` stands in messages. No
// includes.
template <Section T>
LoadedConfig<T> load_config_text(std::string_view yaml, const std::string& name,
                                 const EnvironmentLookup& environment = process_environment) {
  T value;
  const auto unexpanded = detail::load_fields_text(bind_fields(value), yaml, name, environment);
  return detail::loaded(std::move(value), unexpanded);
}

// The resolved form of a config made in code; it has no references.
template <Section T>
ResolvedConfig resolve_config(T config) {
  T defaults;
  return detail::resolve_fields(bind_fields(config), {}, bind_fields(defaults));
}

// A message for each key that is not set (empty text or list, none): `paths` names keys, and sections for the keys in
// them that are marked required. A path that is no key is our bug.
template <Section T>
std::vector<std::string> missing_required(T config, std::span<const std::string> paths) {
  return detail::missing_fields(bind_fields(config), paths);
}

// All messages as one UserError, a line each; nothing if there are none.
void throw_if_any(std::span<const std::string> messages);

}  // namespace vbon
