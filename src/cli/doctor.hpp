// The checks of `vbon doctor`: each looks at one thing, says what it found, and what to do where that is not good.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "vbon/base/error.hpp"
#include "vbon/cli/commands.hpp"

namespace vbon::cli {

enum class Verdict { ok, warn, bad };
std::string_view name_of(Verdict verdict);

struct Finding {
  std::string area;  // "MPI", "disk", "model" …
  Verdict verdict = Verdict::ok;
  std::string what;
  std::string remedy;  // "": nothing to do
};

class Findings {
 public:
  template <class... Args>
  void ok(std::string area, fmt::format_string<Args...> text, Args&&... args) {
    all_.push_back({std::move(area), Verdict::ok, fmt::format(text, std::forward<Args>(args)...), ""});
  }
  void warn(std::string area, std::string what, std::string remedy) {
    all_.push_back({std::move(area), Verdict::warn, std::move(what), std::move(remedy)});
  }
  void bad(std::string area, std::string what, std::string remedy) {
    all_.push_back({std::move(area), Verdict::bad, std::move(what), std::move(remedy)});
  }
  void add(const Findings& more) { all_.insert(all_.end(), more.all_.begin(), more.all_.end()); }

  const std::vector<Finding>& all() const { return all_; }
  std::size_t count(Verdict verdict) const;

 private:
  std::vector<Finding> all_;
};

// The process environment, in name order: those variables that change how ranks compute or talk.
std::vector<std::pair<std::string, std::string>> relevant_environment();

// In children of their own: MPI and CUDA are started and ended. First, before this process has threads.
void check_mpi(Findings& findings);
void check_cuda(Findings& findings, bool needed);
void check_torch(Findings& findings);
void check_hdf5(Findings& findings);

void check_program(Findings& findings);
void check_machine(Findings& findings);
void check_limits(Findings& findings);
void check_environment(Findings& findings);

// Writes, syncs, renames and removes a file in `folder` (or, if that is not there, in the nearest folder above).
void check_disk(Findings& findings, const std::string& area, const std::filesystem::path& folder);

// Every file and folder that the configuration names, and the run folder. Takes as long as reading them does.
void check_configuration(Findings& findings, const Loaded& loaded);

std::string findings_text(const Findings& findings);
std::string findings_json(const Findings& findings);

}  // namespace vbon::cli
