#include "vbon/cli/config_help.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>

#include "cli/text_layout.hpp"
#include "vbon/base/words.hpp"
#include "vbon/cli/table.hpp"

namespace vbon {
namespace {

constexpr std::array<std::string_view, 5> kHeaders = {"key", "type", "default", "unit", "meaning"};
constexpr std::array<std::size_t, 4> kWidest = {32, 24, 18, 10};  // of the columns before the meaning
constexpr std::size_t kNarrowestMeaning = 28;

using Row = std::array<std::string, 5>;

std::string full_name(const SectionDoc& section, const KeyDoc& key) {
  return section.path.empty() ? key.name : section.path + "." + key.name;
}

std::string default_text(const Leaf& leaf) {
  if (leaf.info.required && leaf.type->is_unset(leaf.value)) return "required";
  const YamlNode node = leaf.type->print(leaf.value);
  return node.kind == YamlNode::Kind::null ? "none" : flow_text(node);
}

// Cells wrapped in their columns; the meaning gets what is left of `width`, or lines of its own below.
std::string section_text(const SectionDoc& section, std::size_t width) {
  std::vector<Row> rows = {{"key", "type", "default", "unit", "meaning"}};
  for (const KeyDoc& key : section.keys) rows.push_back({key.name, key.type, key.default_text, key.unit, key.meaning});
  std::array<std::size_t, 4> widths{};
  std::size_t used = 2;
  for (std::size_t c = 0; c < widths.size(); ++c) {
    for (const Row& row : rows) widths[c] = std::max(widths[c], std::min(display_width(row[c]), kWidest[c]));
    const bool only_header =
        c == 3 && std::all_of(rows.begin() + 1, rows.end(), [](const Row& r) { return r[3].empty(); });
    if (only_header) {
      widths[c] = 0;
      rows[0][c].clear();
    }
    used += widths[c] == 0 ? 0 : widths[c] + 2;
  }
  const bool below = used + kNarrowestMeaning > width;
  if (below) rows[0][4].clear();

  std::string out;
  for (const Row& row : rows) {
    std::array<std::vector<std::string>, 5> cells;
    for (std::size_t c = 0; c < 4; ++c) cells[c] = wrapped(row[c], widths[c]);
    if (!below) cells[4] = wrapped(row[4], width - used);
    std::size_t lines = 0;
    for (const auto& cell : cells) lines = std::max(lines, cell.size());
    for (std::size_t i = 0; i < lines; ++i) {
      std::string line = "  ";
      for (std::size_t c = 0; c < 4; ++c)
        if (widths[c] != 0) line += padded(i < cells[c].size() ? cells[c][i] : "", widths[c]) + "  ";
      if (i < cells[4].size()) line += cells[4][i];
      out += without_blanks_at_end(std::move(line)) + "\n";
    }
    if (below && !row[4].empty())
      for (const std::string& line : wrapped(row[4], width > 12 ? width - 6 : 6)) out += "      " + line + "\n";
  }
  return out;
}

std::string headline(const SectionDoc& section, std::size_t width) {
  if (section.path.empty()) return "keys outside of sections:\n";
  std::string out;
  for (const std::string& line : wrapped(section.path + ": " + section.meaning, width)) out += line + "\n";
  return out;
}

}  // namespace

namespace detail {

std::vector<SectionDoc> section_docs(BoundFields fields) {
  const std::vector<BoundSectionMap> maps = fields.maps;
  for (const BoundSectionMap& map : maps) fields.add_named_section(map.path + ".NAME");
  std::vector<SectionDoc> sections = {{.path = "", .meaning = "", .keys = {}}};
  for (const BoundSection& section : fields.sections)
    sections.push_back({.path = section.path, .meaning = std::string(section.info.help), .keys = {}});
  // A map says what its sections are, and they follow it.
  for (const BoundSectionMap& map : maps) {
    const auto heading =
        std::find_if(sections.begin(), sections.end(), [&](const SectionDoc& s) { return s.path == map.path; });
    std::stable_partition(heading, sections.end(), [&](const SectionDoc& s) { return lies_in(s.path, map.path); });
    sections.erase(heading);
  }
  for (const Leaf& leaf : fields.leaves) {
    const std::size_t dot = leaf.path.rfind('.');
    const std::string owner = dot == std::string::npos ? "" : leaf.path.substr(0, dot);
    const auto section = std::find_if(sections.begin(), sections.end(), [&](const auto& s) { return s.path == owner; });
    std::string meaning(leaf.info.help);
    if (leaf.info.secret) meaning += " (secret: in no file that is written)";
    section->keys.push_back({.name = std::string(leaf.info.name),
                             .type = leaf.type->name(),
                             .default_text = default_text(leaf),
                             .unit = std::string(leaf.info.unit),
                             .meaning = std::move(meaning)});
  }
  std::erase_if(sections, [](const SectionDoc& s) { return s.keys.empty() && s.path.empty(); });
  return sections;
}

}  // namespace detail

std::string config_help(std::span<const SectionDoc> sections, std::string_view topic, int width) {
  const auto columns = static_cast<std::size_t>(std::clamp(width, 40, 160));
  std::vector<std::string> names;
  std::string out;
  for (const SectionDoc& section : sections) {
    if (!section.path.empty()) names.push_back(section.path);
    SectionDoc shown = section;
    if (!topic.empty() && !lies_in(section.path, topic))
      std::erase_if(shown.keys, [&](const KeyDoc& key) { return full_name(section, key) != topic; });
    for (const KeyDoc& key : section.keys) names.push_back(full_name(section, key));
    const bool wanted = topic.empty() || (!section.path.empty() && lies_in(section.path, topic)) || !shown.keys.empty();
    if (!wanted) continue;
    out += (out.empty() ? "" : "\n") + headline(shown, columns);
    if (!shown.keys.empty()) out += section_text(shown, columns);
  }
  if (!out.empty()) return out;
  const std::string nearest = nearest_name(topic, names);
  if (!nearest.empty()) throw UserError("there is no section or key '{}'; did you mean '{}'?", topic, nearest);
  std::erase_if(names, [](const std::string& name) { return name.find('.') != std::string::npos; });
  throw UserError("there is no section or key '{}'; sections are: {}", topic, joined(names));
}

std::string config_markdown(std::span<const SectionDoc> sections) {
  std::string out;
  for (const SectionDoc& section : sections) {
    out += fmt::format("{}## {}\n\n", out.empty() ? "" : "\n",
                       section.path.empty() ? "Keys outside of sections" : "`" + section.path + "`");
    if (!section.meaning.empty()) out += section.meaning + "\n";
    if (section.keys.empty()) continue;
    if (!section.meaning.empty()) out += "\n";
    out += "|";
    for (const std::string_view header : kHeaders) out += fmt::format(" {} |", header);
    out += "\n|---|---|---|---|---|\n";
    for (const KeyDoc& key : section.keys) {
      const auto cell = [](std::string text) {
        for (std::size_t at = text.find('|'); at != std::string::npos; at = text.find('|', at + 2))
          text.insert(at, "\\");
        return text;
      };
      const std::string value = key.default_text == "required" ? "**required**" : "`" + cell(key.default_text) + "`";
      out +=
          fmt::format("| `{}` | {} | {} | {} | {} |\n", key.name, cell(key.type), value, key.unit, cell(key.meaning));
    }
  }
  return out;
}

int terminal_width() {
  winsize size = {};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  int columns = 0;
  if (const char* text = std::getenv("COLUMNS")) {
    const std::string_view digits = text;
    std::from_chars(digits.data(), digits.data() + digits.size(), columns);
  }
  return columns > 0 ? columns : 100;
}

}  // namespace vbon
