// What `vbon help config` prints and docs/config.md holds: every key with type, default, unit and meaning, from the
// same field lists that the loader reads.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vbon/cli/binder.hpp"

namespace vbon {

struct KeyDoc {
  std::string name;  // without its section
  std::string type;
  std::string default_text;  // "required" where there is none
  std::string unit;
  std::string meaning;
};

struct SectionDoc {
  std::string path;  // "" for keys outside of sections
  std::string meaning;
  std::vector<KeyDoc> keys;
};

namespace detail {
std::vector<SectionDoc> section_docs(BoundFields fields);
}

template <Section T>
std::vector<SectionDoc> config_docs() {
  T defaults;
  return detail::section_docs(bind_fields(defaults));
}

// `topic` is a section, a key, or empty for everything. UserError with the nearest name where there is no such one.
std::string config_help(std::span<const SectionDoc> sections, std::string_view topic, int width);
std::string config_markdown(std::span<const SectionDoc> sections);

// Columns of the terminal at standard output; COLUMNS, or 100, where it is none.
int terminal_width();

}  // namespace vbon
