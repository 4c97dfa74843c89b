// What the user reads while a command works, on one rank or on thousands. info() speaks on the root rank only, warn()
// also on the first rank of each role (it may see what the root does not), error() on all; these carry "[rank r]" when
// there are several ranks. Lines go to standard error; set_file() adds a run's `log`, set_rank_file() a file that
// gets all of this rank's lines, said or not.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

namespace vbon::log {

enum class Level { debug, info, warn, error, quiet };

void init(int rank, int num_ranks, Level level = Level::info);
void set_root(bool root);                      // who speaks for all, where it is not rank 0
void set_warns(bool warns);                    // whether a rank that is not the root speaks in warnings
void set_file(const std::string& path);        // appends; root only
void set_rank_file(const std::string& path);   // appends; of this rank alone
void set_all_ranks(bool on);                   // info() of every rank, prefixed
void set_line_start(const std::string& text);  // stands before each line on the terminal: clears a bar drawn there
bool is_root();
Level level();
void write(Level level, const std::string& text);
void write_own(Level level, const std::string& text);  // to the rank's file alone, where it has one
void flush();

template <class... Args>
void debug(fmt::format_string<Args...> text, Args&&... args) {
  if (level() <= Level::debug) write(Level::debug, fmt::format(text, std::forward<Args>(args)...));
}
template <class... Args>
void info(fmt::format_string<Args...> text, Args&&... args) {
  write(Level::info, fmt::format(text, std::forward<Args>(args)...));
}
template <class... Args>
void warn(fmt::format_string<Args...> text, Args&&... args) {
  write(Level::warn, fmt::format(text, std::forward<Args>(args)...));
}
template <class... Args>
void error(fmt::format_string<Args...> text, Args&&... args) {
  write(Level::error, fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace vbon::log
