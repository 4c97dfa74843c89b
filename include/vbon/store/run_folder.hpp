// A run's folder: config.yaml log metrics.jsonl metrics.h5 rollouts/ checkpoints/ eval/ lock, and attempts.jsonl (one
// line a start: run id, attempt, host, pid, job), finished (written last) and, where ranks write logs of their own,
// logs/. One process, the root, holds it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vbon/store/lock.hpp"

namespace vbon {

struct RunFolderOptions {
  std::string config;  // resolved YAML as it is saved
  std::string job;     // of the batch system; empty: none
  // The keys in which the saved configuration differs from this one and that may not change on resume ("train.lr: 1e-4
  // there, 3e-4 here"); {} means the run may go on. Called with the text of config.yaml.
  std::function<std::vector<std::string>(const std::string& saved)> changed_keys;
};

class RunFolder {
 public:
  // Makes the folder, or takes up an unfinished run in it. UserError, with nothing touched, when it is
  //   finished (its marker is there), foreign (files, but no run of ours), another run's (changed_keys), or locked.
  static RunFolder open(const fs::path& path, const RunFolderOptions& options);
  // The same checks but for the lock, without writing anything (--dry-run).
  static void require_usable(const fs::path& path, const RunFolderOptions& options);

  const fs::path& path() const { return path_; }
  const std::string& run_id() const { return run_id_; }  // kept over attempts
  std::int64_t attempt() const { return attempt_; }      // 1 for the first start
  bool resumed() const { return attempt_ > 1; }

  fs::path log() const { return path_ / "log"; }
  fs::path metrics_jsonl() const { return path_ / "metrics.jsonl"; }
  fs::path metrics_h5() const { return path_ / "metrics.h5"; }
  fs::path rollouts() const { return path_ / "rollouts"; }
  fs::path checkpoints() const { return path_ / "checkpoints"; }
  fs::path eval() const { return path_ / "eval"; }

  // Names directly in the folder that are none of ours: left alone, and worth a warning.
  std::vector<std::string> unknown_files() const;
  // Marks the run as finished, with one line of JSON (what, when); later starts are refused.
  void finish(std::string_view summary_json);

 private:
  RunFolder(fs::path path, FileLock lock) : path_(std::move(path)), lock_(std::move(lock)) {}
  void start_attempt(const RunFolderOptions& options);

  fs::path path_;
  FileLock lock_;
  std::string run_id_;
  std::int64_t attempt_ = 0;
};

bool is_finished_run(const fs::path& path);

}  // namespace vbon
