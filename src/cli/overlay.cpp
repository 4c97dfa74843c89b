#include "cli/overlay.hpp"

#include <algorithm>

#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/words.hpp"

namespace vbon {
namespace {

constexpr std::size_t kMaxIncludeDepth = 16;
constexpr int kMaxFiles = 64;

std::string below(const std::string& section, const std::string& name) {
  return section.empty() ? name : section + "." + name;
}

// The part of `path` after `section.`, or "" where it does not lie directly in it.
std::string own_name(const std::string& path, const std::string& section) {
  if (!section.empty() && !path.starts_with(section + ".")) return {};
  const std::string name = section.empty() ? path : path.substr(section.size() + 1);
  return name.find('.') == std::string::npos ? name : std::string();
}

std::string last_name(const std::string& path) { return path.substr(path.rfind('.') + 1); }

}  // namespace

void Overlay::add_file(const std::filesystem::path& file) { add_included_file(file, ""); }

void Overlay::add_included_file(const std::filesystem::path& file, const std::string& included_from) {
  const std::string from = included_from.empty() ? "" : fmt::format(" (included in {})", included_from);
  std::error_code ignored;
  const std::filesystem::path identity = std::filesystem::weakly_canonical(file, ignored);
  if (std::find(chain_.begin(), chain_.end(), identity) != chain_.end()) {
    std::vector<std::string> names;
    for (const auto& name : chain_) names.push_back(name.filename().string());
    errors_.push_back(fmt::format("include files form a cycle: {} -> {}{}; remove one include", joined(names, " -> "),
                                  identity.filename().string(), from));
    return;
  }
  if (chain_.size() >= kMaxIncludeDepth || ++files_ > kMaxFiles) {
    errors_.push_back(fmt::format("too many include files: at most {} inside of each other and {} in all{}",
                                  kMaxIncludeDepth, kMaxFiles, from));
    return;
  }
  chain_.push_back(identity);
  try {
    const YamlNode root = parse_yaml(read_file(file, kMaxYamlBytes), file.string(), errors_);
    add_includes(root, file);
    add_map(root, "", /*is_file=*/true);
  } catch (const UserError& e) {
    errors_.push_back(e.what() + from);
  }
  chain_.pop_back();
}

void Overlay::add_includes(const YamlNode& root, const std::filesystem::path& file) {
  const auto found = std::find_if(root.entries.begin(), root.entries.end(),
                                  [](const YamlNode::Entry& entry) { return entry.key == "include"; });
  if (found == root.entries.end()) return;
  try {
    YamlNode value = found->value;
    expand_references(value, environment_);
    for (const std::string& name : detail::Codec<std::vector<std::string>>::read(value)) {
      require(!name.empty(), "an empty file name");
      add_included_file(file.parent_path() / name, found->place);
    }
  } catch (const UserError& e) {
    errors_.push_back(fmt::format("'include' ({}): {}", found->place, e.what()));
  }
}

void Overlay::add_override(const std::string& text) {
  const std::string name = "command line";  // and not the text, which may hold a secret
  const std::size_t mark = text.find('=');
  const std::string path(trimmed(std::string_view(text).substr(0, mark)));
  if (mark == std::string::npos || path.empty()) {
    errors_.push_back(fmt::format("'-s {}': an override has the form section.key=value", text));
    return;
  }
  try {
    YamlNode value = parse_yaml(std::string_view(text).substr(mark + 1), name, errors_);
    add_value(path, name, value);
  } catch (const UserError& e) {
    errors_.push_back(e.what());
  }
}

void Overlay::add_text(std::string_view yaml, const std::string& name) {
  try {
    add_map(parse_yaml(yaml, name, errors_), "", /*is_file=*/false);
  } catch (const UserError& e) {
    errors_.push_back(e.what());
  }
}

void Overlay::add_map(const YamlNode& map, const std::string& section, bool is_file) {
  if (map.kind == YamlNode::Kind::null) return;  // a section without keys
  if (map.kind != YamlNode::Kind::map) {
    const std::string what = section.empty() ? "the file" : fmt::format("'{}'", section);
    errors_.push_back(
        fmt::format("{} ({}) needs keys with values ('key: value'), found {}", what, map.place, description(map)));
    return;
  }
  for (const YamlNode::Entry& entry : map.entries) {
    if (is_file && section.empty() && entry.key == "include") continue;
    add_value(below(section, entry.key), entry.place, entry.value);
  }
}

void Overlay::add_value(const std::string& path, const std::string& place, const YamlNode& value) {
  const bool known = fields_.leaf(path) != nullptr || fields_.has_section(path);
  try {
    if (!known) fields_.add_named_section(path);
  } catch (const UserError& e) {
    errors_.push_back(fmt::format("{} ({})", e.what(), place));
    return;
  }
  if (fields_.leaf(path) != nullptr) {
    nodes_[path] = value;
    nodes_[path].place = place;
  } else if (fields_.has_section(path)) {
    YamlNode section = value;
    section.place = place;
    add_map(section, path, /*is_file=*/false);
  } else {
    const std::size_t dot = path.rfind('.');
    errors_.push_back(unknown_key(path, dot == std::string::npos ? "" : path.substr(0, dot), place));
  }
}

std::string Overlay::unknown_key(const std::string& path, const std::string& section, const std::string& place) const {
  const std::string message = fmt::format("unknown key '{}' ({})", path, place);
  if (last_name(path) == "<<") return message + "; merge keys are not supported: use 'include'";
  std::vector<std::string> all;
  for (const BoundSection& known : fields_.sections) all.push_back(known.path);
  for (const Leaf& leaf : fields_.leaves) all.push_back(leaf.path);

  std::vector<std::string> siblings;
  for (const std::string& known : all)
    if (const std::string name = own_name(known, section); !name.empty()) siblings.push_back(name);
  if (const std::string near = nearest_name(last_name(path), siblings); !near.empty())
    return fmt::format("{}; did you mean '{}'?", message, below(section, near));
  for (const std::string& known : all)  // the right name in the wrong place
    if (last_name(known) == last_name(path)) return fmt::format("{}; did you mean '{}'?", message, known);
  if (const std::string near = nearest_name(path, all); !near.empty())
    return fmt::format("{}; did you mean '{}'?", message, near);
  if (siblings.empty()) return message + "; see 'vbon help config'";
  return fmt::format("{}; {} are: {}", message, section.empty() ? "sections" : fmt::format("keys of '{}'", section),
                     joined(siblings));
}

}  // namespace vbon
