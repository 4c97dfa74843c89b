// A lock file: one process at a time, seen from every node that shares the folder, gone with its holder.
//
// The file is made with O_CREAT|O_EXCL, holds who has it (JSON) and is held by flock. A holder that was killed leaves
// the file behind but not the flock: such a lock is stale and taken over, whoever has its pid now. Where a file system
// has no flock, a lock of this host is stale if its process is gone: the pid is free, belongs to a process that began
// at another time, or the machine has been started since. One of another host must be removed by the user.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace vbon {

namespace fs = std::filesystem;

struct LockHolder {
  std::string host;
  std::int64_t pid = 0;
  std::string job;      // of the batch system; empty: none
  std::string started;  // UTC
  // Which process that pid was; empty or 0: not known (another system than Linux).
  std::string boot;              // the kernel's name for the time since it was started
  std::string pid_namespace;     // pids of another one say nothing here
  std::int64_t start_ticks = 0;  // when the process began, since boot
};

class FileLock {
 public:
  // `path`: "lock" in the folder that it locks, or NAME.lock beside the file NAME.
  // UserError naming the holder when another process has it; EnvironmentError when the file cannot be made.
  // All of `holder` but `job` is filled here where it is empty.
  FileLock(const fs::path& path, LockHolder holder);
  FileLock(FileLock&&) noexcept;
  FileLock& operator=(FileLock&&) noexcept;
  ~FileLock();  // removes the file
  const fs::path& path() const;

 private:
  struct Held;
  std::unique_ptr<Held> held_;
};

// Who holds the lock at `path` now, without taking it; nullopt: nobody (a holder that died does not count).
std::optional<LockHolder> lock_holder(const fs::path& path);

// This process as a holder.
LockHolder this_process();
// Whether that process is known to have ended; false for one of another host or pid namespace.
bool is_gone(const LockHolder& holder);

}  // namespace vbon
