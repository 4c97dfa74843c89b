#include "vbon/store/run_folder.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "store/strict_json.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/host.hpp"
#include "vbon/base/sha256.hpp"
#include "vbon/base/words.hpp"

namespace vbon {
namespace {

constexpr std::array<std::string_view, 12> kOurs = {"config.yaml", "log",      "logs",           "metrics.jsonl",
                                                    "metrics.h5",  "rollouts", "checkpoints",    "eval",
                                                    "lock",        "finished", "attempts.jsonl", "report.html"};
constexpr const char* kConfig = "config.yaml";
constexpr const char* kFinished = "finished";
constexpr const char* kAttempts = "attempts.jsonl";
constexpr std::uint64_t kMaxConfigBytes = std::uint64_t{64} << 20;

bool is_ours(const std::string& name) {
  return std::any_of(kOurs.begin(), kOurs.end(),
                     [&](std::string_view ours) { return name == ours || name == fmt::format(".{}.tmp", ours); });
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    names.push_back(at->path().filename().string());
  if (error) throw_input_error(error.value(), "list", folder.string());
  std::sort(names.begin(), names.end());
  return names;
}

// A folder that holds nothing but what a start of ours leaves before its config.yaml is committed.
bool is_fresh(const fs::path& path) {
  const std::vector<std::string> names = names_in(path);
  return std::all_of(names.begin(), names.end(), [](const std::string& name) {
    return name == "lock" || name == "log" || name == fmt::format(".{}.tmp", kConfig);
  });
}

// Unique without being drawn: who starts the run, where, and when.
std::string new_run_id(const fs::path& path) {
  const auto now = std::chrono::system_clock::now().time_since_epoch().count();
  return sha256_hex(fmt::format("{} {} {} {}", host_name(), ::getpid(), now, fs::absolute(path).string()))
      .substr(0, 16);
}

struct Attempts {
  std::string run_id;  // empty: none yet
  std::int64_t count = 0;
  std::string text;  // the complete lines
};

Attempts read_attempts(const fs::path& path) {
  Attempts attempts;
  if (!fs::exists(path)) return attempts;
  for (const std::string& line : read_complete_lines(path)) {
    const nlohmann::json json = parse_strict_json(line, 1, "a line of '" + path.string() + "'");
    require(json.is_object() && json.contains("run_id") && json["run_id"].is_string(),
            "'{}' is damaged: a line has no run_id", path.string());
    attempts.run_id = json["run_id"].get<std::string>();
    ++attempts.count;
    attempts.text += line + "\n";
  }
  return attempts;
}

void check_state(const fs::path& path, const RunFolderOptions& options) {
  check(options.changed_keys != nullptr, "a run's configuration can be compared");
  if (!fs::exists(path)) return;
  require(fs::is_directory(path), "'{}' is no folder; name another one for the run", path.string());
  require(!is_finished_run(path), "'{}' holds a finished run; name another folder for a new one", path.string());
  if (!fs::exists(path / kConfig)) {
    require(is_fresh(path), "'{}' holds files, but no run of this program (no {}); name an empty or new folder",
            path.string(), kConfig);
    return;
  }
  const std::vector<std::string> changed = options.changed_keys(read_file(path / kConfig, kMaxConfigBytes));
  require(
      changed.empty(),
      "'{}' holds a run with another configuration ({}); only run.dir, log, cluster, checkpoint and evaluations may "
      "change on resume: name another folder, or undo the change",
      path.string(), joined(changed, "; "));
}

}  // namespace

bool is_finished_run(const fs::path& path) { return fs::exists(path / kFinished); }

void RunFolder::require_usable(const fs::path& path, const RunFolderOptions& options) { check_state(path, options); }

RunFolder RunFolder::open(const fs::path& path, const RunFolderOptions& options) {
  check_state(path, options);
  make_folders(path);
  RunFolder run(path, FileLock(path / "lock", LockHolder{.job = options.job}));
  check_state(path, options);  // again: another process may have finished or begun it before we had the lock
  run.start_attempt(options);
  return run;
}

void RunFolder::start_attempt(const RunFolderOptions& options) {
  write_file_atomically(path_ / kConfig, options.config);  // first: with it the folder is a run
  for (const fs::path& folder : {rollouts(), checkpoints(), eval()}) make_folders(folder);
  const Attempts before = read_attempts(path_ / kAttempts);
  run_id_ = before.run_id.empty() ? new_run_id(path_) : before.run_id;
  attempt_ = before.count + 1;
  const nlohmann::ordered_json line = {{"run_id", run_id_}, {"attempt", attempt_}, {"host", host_name()},
                                       {"pid", ::getpid()}, {"job", options.job},  {"started", utc_now()}};
  write_file_atomically(path_ / kAttempts, before.text + line.dump() + "\n");
}

std::vector<std::string> RunFolder::unknown_files() const {
  std::vector<std::string> unknown;
  for (std::string& name : names_in(path_))
    if (!is_ours(name)) unknown.push_back(std::move(name));
  return unknown;
}

void RunFolder::finish(std::string_view summary_json) {
  write_file_atomically(path_ / kFinished, std::string(summary_json) + "\n");
}

}  // namespace vbon
