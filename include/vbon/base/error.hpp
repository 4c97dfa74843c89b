// The three kinds of failure, and the exit code that each one ends in.
//
// UserError: what was given to us is wrong; the message says what to do about it.
// EnvironmentError: the machine failed (disk full, peer lost, timeout); state on disk is safe, trying again is right.
// InternalError: our bug.
// Errors travel as exceptions inside a rank; main() alone turns one into an exit code.
#pragma once

#include <fmt/format.h>

#include <source_location>
#include <stdexcept>
#include <string>
#include <utility>

namespace vbon {

enum class ExitCode : int {
  ok = 0,
  internal = 1,
  user = 2,
  environment = 74,  // sysexits' EX_IOERR: try again
  requeue = 75,      // sysexits' EX_TEMPFAIL: stopped by a signal, checkpoint written
};

inline constexpr std::size_t kMaxMessageBytes = 16384;
// The beginning of a longer message: some quote what a file holds.
std::string bounded_message(std::string text);

class UserError : public std::runtime_error {
 public:
  template <class... Args>
  explicit UserError(fmt::format_string<Args...> text, Args&&... args)
      : std::runtime_error(bounded_message(fmt::format(text, std::forward<Args>(args)...))) {}
  explicit UserError(const std::string& text) : std::runtime_error(bounded_message(text)) {}
};

class EnvironmentError : public std::runtime_error {
 public:
  template <class... Args>
  explicit EnvironmentError(fmt::format_string<Args...> text, Args&&... args)
      : std::runtime_error(fmt::format(text, std::forward<Args>(args)...)) {}
  explicit EnvironmentError(const std::string& text) : std::runtime_error(text) {}
};

class InternalError : public std::logic_error {
 public:
  explicit InternalError(const std::string& text, std::source_location where = std::source_location::current());
};

// The error of a rank that fails together with others, of whom another tells it: 1,024 ranks say it once.
struct ToldElsewhere {};
template <class Error>
class Elsewhere : public Error, public ToldElsewhere {
 public:
  explicit Elsewhere(const std::string& text) : Error(text) {}
};
inline bool is_told_elsewhere(const std::exception& error) {
  return dynamic_cast<const ToldElsewhere*>(&error) != nullptr;
}

// An invariant of ours: a false condition is a bug and names its place.
inline void check(bool condition, const char* text, std::source_location where = std::source_location::current()) {
  if (!condition) [[unlikely]]
    throw InternalError(text, where);
}

// A demand on input: a false condition is the user's error.
template <class... Args>
void require(bool condition, fmt::format_string<Args...> text, Args&&... args) {
  if (!condition) [[unlikely]]
    throw UserError(fmt::format(text, std::forward<Args>(args)...));
}

// The error that errno means for an operation on a path: EnvironmentError where a retry can help (disk full, I/O
// error), or where the output place cannot be written; UserError where a named input is missing or unreadable.
[[noreturn]] void throw_output_error(int error_number, const std::string& operation, const std::string& path);
[[noreturn]] void throw_input_error(int error_number, const std::string& operation, const std::string& path);

}  // namespace vbon
