#include "vbon/cli/yaml.hpp"

#include <algorithm>
#include <map>

#include "cli/overlay.hpp"
#include "vbon/base/sha256.hpp"
#include "vbon/base/words.hpp"

namespace vbon {
namespace {

bool is_left_out(std::string_view path, std::span<const std::string> left_out) {
  const auto names = [&](auto matches) { return std::any_of(left_out.begin(), left_out.end(), matches); };
  return names([&](const std::string& name) { return lies_in(path, name); }) &&
         !names([&](const std::string& name) { return name.starts_with('!') && lies_in(path, name.substr(1)); });
}

// Reads each key's winning node; errors of one key do not hide those of another.
std::vector<UnexpandedValue> read_leaves(const BoundFields& fields, Overlay& overlay,
                                         const EnvironmentLookup& environment) {
  std::vector<UnexpandedValue> unexpanded;
  for (const Leaf& leaf : fields.leaves) {
    const auto found = overlay.nodes().find(leaf.path);
    if (found == overlay.nodes().end()) continue;
    YamlNode node = found->second;
    try {
      const bool held_references = expand_references(node, environment);
      leaf.type->read(detail::in_unit(node, leaf.info.unit), leaf.value);
      if (held_references) unexpanded.push_back({.path = leaf.path, .node = found->second});
    } catch (const UserError& e) {
      const std::string what = leaf.info.secret ? "the value cannot be read (a secret key: it is not shown)" : e.what();
      overlay.errors().push_back(fmt::format("'{}' ({}): {}", leaf.path, found->second.place, what));
    }
  }
  throw_if_any(overlay.errors());
  return unexpanded;
}

void escape_references(YamlNode& node) {
  if (node.kind == YamlNode::Kind::scalar) node.text = escaped_references(node.text);
  for (YamlNode& item : node.items) escape_references(item);
  for (YamlNode::Entry& entry : node.entries) escape_references(entry.value);
}

}  // namespace

namespace detail {

std::vector<UnexpandedValue> load_fields(BoundFields fields, const ConfigSources& sources) {
  Overlay overlay(fields, sources.environment);
  if (!sources.file.empty()) overlay.add_file(sources.file);
  for (const std::string& text : sources.overrides) overlay.add_override(text);
  return read_leaves(fields, overlay, sources.environment);
}

std::vector<UnexpandedValue> load_fields_text(BoundFields fields, std::string_view yaml, const std::string& name,
                                              const EnvironmentLookup& environment) {
  Overlay overlay(fields, environment);
  overlay.add_text(yaml, name);
  return read_leaves(fields, overlay, environment);
}

ResolvedConfig resolve_fields(const BoundFields& fields, std::span<const UnexpandedValue> unexpanded,
                              const BoundFields& defaults) {
  const auto text_of = [](const Leaf& leaf) {
    YamlNode node = leaf.type->print(leaf.value);
    escape_references(node);
    return flow_text(node);
  };
  std::vector<ResolvedConfig::Entry> entries;
  for (const Leaf& leaf : fields.leaves) {
    if (leaf.info.secret) continue;
    const auto written = std::find_if(unexpanded.begin(), unexpanded.end(),
                                      [&](const UnexpandedValue& value) { return value.path == leaf.path; });
    const std::string text = written != unexpanded.end() ? flow_text(written->node) : text_of(leaf);
    const Leaf* by_default = defaults.leaf(leaf.path);
    entries.push_back(
        {.path = leaf.path, .text = text, .is_default = by_default != nullptr && text == text_of(*by_default)});
  }
  return ResolvedConfig(std::move(entries));
}

std::vector<std::string> missing_fields(const BoundFields& fields, std::span<const std::string> paths) {
  std::vector<std::string> messages;
  for (const std::string& path : paths) {
    check(fields.leaf(path) != nullptr || fields.has_section(path), "a required key is no key of the config");
    for (const Leaf& leaf : fields.leaves) {
      const bool asked = leaf.path == path || (leaf.info.required && lies_in(leaf.path, path));
      if (asked && leaf.type->is_unset(leaf.value))
        messages.push_back(fmt::format("'{}' has to be set: {}", leaf.path, leaf.info.help));
    }
  }
  return messages;
}

}  // namespace detail

std::string ResolvedConfig::yaml() const {
  std::string out;
  std::vector<std::string> open;  // the sections that the last line stands in
  for (const Entry& entry : entries_) {
    std::vector<std::string> sections = split(entry.path, '.');
    const std::string name = sections.back();
    sections.pop_back();
    std::size_t same = 0;
    while (same < open.size() && same < sections.size() && open[same] == sections[same]) ++same;
    for (std::size_t level = same; level < sections.size(); ++level)
      out += fmt::format("{:{}}{}:\n", "", 2 * level, sections[level]);
    out += fmt::format("{:{}}{}: {}\n", "", 2 * sections.size(), name, entry.text);
    open = std::move(sections);
  }
  return out;
}

std::string ResolvedConfig::hash(std::span<const std::string> left_out) const {
  Sha256 hash;
  for (const Entry& entry : entries_)
    if (!entry.is_default && !is_left_out(entry.path, left_out))
      hash.update(entry.path).update(": ").update(entry.text).update("\n");
  return hash.hex();
}

std::vector<std::string> config_differences(const ResolvedConfig& before, const ResolvedConfig& after,
                                            std::span<const std::string> left_out) {
  std::map<std::string, std::string> old;
  for (const ResolvedConfig::Entry& entry : before.entries()) old[entry.path] = entry.text;
  std::vector<std::string> lines;
  for (const ResolvedConfig::Entry& entry : after.entries()) {
    const auto found = old.find(entry.path);
    const std::string was = found == old.end() ? "(no such key)" : found->second;
    if (was != entry.text && !is_left_out(entry.path, left_out))
      lines.push_back(fmt::format("{}: {} -> {}", entry.path, was, entry.text));
    if (found != old.end()) old.erase(found);
  }
  for (const auto& [path, text] : old)
    if (!is_left_out(path, left_out)) lines.push_back(fmt::format("{}: {} -> (no such key)", path, text));
  return lines;
}

void throw_if_any(std::span<const std::string> messages) {
  constexpr std::size_t kShown = 50;
  if (messages.empty()) return;
  std::string text = joined(messages.first(std::min(messages.size(), kShown)), "\n");
  if (messages.size() > kShown) text += fmt::format("\n… and {} more", messages.size() - kShown);
  throw UserError(text);
}

}  // namespace vbon
