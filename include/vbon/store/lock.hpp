// A lock file: one process at a time, seen from every node that shares the folder, gone with its holder.
//
// The file is made with O_CREAT|O_EXCL, holds who has it (JSON: host, pid, job, started) and is held by flock. A holder
// that was killed leaves the file behind but not the flock: such a lock is stale and taken over. Where a file system
// has no flock, a lock of this host whose pid is gone is stale; one of another host must be removed by the user.
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
};

class FileLock {
 public:
  // `path`: "lock" in the folder that it locks, or NAME.lock beside the file NAME.
  // UserError naming the holder when another process has it; EnvironmentError when the file cannot be made.
  // `holder.pid` and `started` are filled here.
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

std::string host_name();

}  // namespace vbon
