// The sources of a configuration laid over each other: which node every key takes its value from.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "vbon/cli/yaml.hpp"

namespace vbon {

class Overlay {
 public:
  // Sections that the sources name are added to `fields`.
  Overlay(BoundFields& fields, const EnvironmentLookup& environment) : fields_(fields), environment_(environment) {}

  void add_file(const std::filesystem::path& file);
  void add_override(const std::string& text);  // "a.b=value"
  void add_text(std::string_view yaml, const std::string& name);

  const std::map<std::string, YamlNode, std::less<>>& nodes() const { return nodes_; }
  std::vector<std::string>& errors() { return errors_; }

 private:
  void add_included_file(const std::filesystem::path& file, const std::string& included_from);
  void add_includes(const YamlNode& root, const std::filesystem::path& file);
  void add_map(const YamlNode& map, const std::string& section, bool is_file);
  void add_value(const std::string& path, const std::string& place, const YamlNode& value);
  std::string unknown_key(const std::string& path, const std::string& section, const std::string& place) const;

  BoundFields& fields_;
  const EnvironmentLookup& environment_;
  std::map<std::string, YamlNode, std::less<>> nodes_;
  std::vector<std::string> errors_;
  std::vector<std::filesystem::path> chain_;  // canonical names of the files being read, outermost first
  int files_ = 0;
};

// `${NAME}` and `${NAME:-default}` in every scalar of `node` replaced; true if there was one. A scalar that held one is
// plain afterwards, so that "${N}" can be a number. UserError for one that is not set or not well formed.
bool expand_references(YamlNode& node, const EnvironmentLookup& environment);
// The text that expands to `text`.
std::string escaped_references(std::string_view text);

}  // namespace vbon
