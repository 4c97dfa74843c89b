#include "cli/allocation.hpp"

#include <charconv>
#include <cmath>
#include <cstdlib>

#include "cli/bounded.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/words.hpp"

namespace vbon::cli {
namespace {

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// As Slurm names it to squeue: the number of an array's last task is that of the whole array, too.
std::string job_name() {
  const std::string array = variable("SLURM_ARRAY_JOB_ID"), task = variable("SLURM_ARRAY_TASK_ID");
  return array.empty() || task.empty() ? variable("SLURM_JOB_ID") : array + "_" + task;
}

}  // namespace

std::optional<double> time_in(const std::string& text) {
  const std::string_view word = trimmed(text);
  double value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  const bool whole = error == std::errc() && end == word.data() + word.size();
  return whole && std::isfinite(value) && value > 0 ? std::optional(value) : std::nullopt;
}

std::optional<double> allocation_end(bool may_ask) {
  if (const std::string given = variable("VBON_END_TIME"); !given.empty()) {
    const std::optional<double> end = time_in(given);
    require(end.has_value(), "VBON_END_TIME is '{}'; give seconds since 1970, as `date +%s` prints them", given);
    return end;
  }
  if (const auto end = time_in(variable("SLURM_JOB_END_TIME"))) return end;
  const std::string job = job_name();
  if (!may_ask || job.empty()) return std::nullopt;
  const ChildResult said =
      run_program(10, {"env", "SLURM_TIME_FORMAT=%s", "squeue", "--noheader", "--jobs", job, "--format", "%e"});
  if (!said.ended)
    log::warn("squeue does not say when job {} ends{}: checkpoint.before_end is of no effect, signals are", job,
              said.timed_out ? " (no answer within 10 s)" : "");
  return said.ended ? time_in(said.output) : std::nullopt;
}

}  // namespace vbon::cli
