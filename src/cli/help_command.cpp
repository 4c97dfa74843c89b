#include <algorithm>
#include <cstdio>

#include "vbon/base/version.hpp"
#include "vbon/base/words.hpp"
#include "vbon/cli/commands.hpp"
#include "vbon/cli/config_help.hpp"
#include "vbon/cli/table.hpp"

namespace vbon::cli {

ExitCode run_help_command(const CommandLine& line) {
  if (!line.topics.empty() && line.topics[0] == "config") {
    const std::vector<SectionDoc> docs = config_docs<Settings>();
    const std::string topic = line.topics.size() > 1 ? line.topics[1] : "";
    fmt::print("{}", topic == "--markdown" || topic == "markdown" ? config_markdown(docs)
                                                                  : config_help(docs, topic, terminal_width()));
    return ExitCode::ok;
  }
  Table table({"command", "what it does"});
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    names.emplace_back(command.name);
    if (line.topics.empty() || line.topics[0] == command.name) table.add_row({command.name, command.help});
  }
  if (!line.topics.empty()) {
    const bool known = std::find(names.begin(), names.end(), line.topics[0]) != names.end();
    const std::string nearest = nearest_name(line.topics[0], names);
    require(known, "no help on '{}'{}; topics: config, {}", line.topics[0],
            nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest), joined(names));
  }
  fmt::print(
      "{}\nvbon COMMAND --help shows a command's flags, vbon help config [SECTION] every key of the configuration.\n",
      table.text());
  return ExitCode::ok;
}

}  // namespace vbon::cli
