// A folder as the commit protocol uses it: write, sync, rename, see, remove.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <vector>

#include "cli/doctor.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/words.hpp"

namespace vbon::cli {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::int64_t kMiB = 1 << 20;
constexpr std::int64_t kPiece = 4 * kMiB, kWhole = 64 * kMiB;
constexpr double kMostSeconds = 5;  // of each measurement

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct FileSystem {
  const char* name = "another file system";
  bool in_memory = false, network = false;
};
FileSystem file_system(const fs::path& folder) {
  struct statfs info = {};
  if (::statfs(folder.c_str(), &info) != 0) return {};
  switch (static_cast<unsigned long>(info.f_type) & 0xffffffffUL) {
    case 0x01021994: return {"tmpfs", true, false};
    case 0x6969: return {"NFS", false, true};
    case 0x0bd00bd0: return {"Lustre", false, true};
    case 0x47504653: return {"GPFS", false, true};
    case 0x19830326: return {"BeeGFS", false, true};
    case 0xff534d42: return {"CIFS", false, true};
    case 0x00c36400: return {"Ceph", false, true};
    case 0xef53: return {"ext4", false, false};
    case 0x58465342: return {"XFS", false, false};
    case 0x9123683e: return {"Btrfs", false, false};
    case 0x794c7630: return {"overlay", false, false};
    default: return {};
  }
}

// A file of our own in a folder; it goes with this record, whatever happens.
class ProbeFile {
 public:
  explicit ProbeFile(const fs::path& folder)
      : path_(folder / fmt::format(".vbon-doctor-{}.tmp", ::getpid())), second_(path_) {
    second_.replace_extension(".done");
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd_ < 0) throw_output_error(errno, "create", path_.string());
  }
  ~ProbeFile() {
    if (fd_ >= 0) ::close(fd_);
    ::unlink(path_.c_str());
    ::unlink(second_.c_str());
  }
  ProbeFile(const ProbeFile&) = delete;
  ProbeFile& operator=(const ProbeFile&) = delete;

  // Bytes a second, each piece synced.
  double write_speed(std::int64_t most) {
    const std::vector<char> piece(static_cast<std::size_t>(std::min(most, kPiece)), 'v');
    const auto start = Clock::now();
    std::int64_t written = 0;
    do {
      write(piece.data(), piece.size());
      sync();
      written += static_cast<std::int64_t>(piece.size());
    } while (written < most && since(start) < kMostSeconds);
    return static_cast<double>(written) / since(start);
  }

  // Median seconds of a small write that is synced.
  double sync_latency() {
    std::vector<double> times;
    const std::vector<char> block(4096, 'b');
    const auto start = Clock::now();
    do {
      const auto before = Clock::now();
      write(block.data(), block.size());
      sync();
      times.push_back(since(before));
    } while (times.size() < 20 && since(start) < kMostSeconds);
    std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
    return times[times.size() / 2];
  }

  // Whether a renamed file is there under its new name alone, at once.
  bool rename_is_visible() {
    if (::rename(path_.c_str(), second_.c_str()) != 0) throw_output_error(errno, "rename", path_.string());
    sync_folder(path_.parent_path());
    struct stat info = {};
    const bool gone = ::stat(path_.c_str(), &info) != 0 && errno == ENOENT;
    bool listed = false;
    for (const auto& entry : fs::directory_iterator(path_.parent_path())) listed = listed || entry.path() == second_;
    return gone && listed && ::stat(second_.c_str(), &info) == 0;
  }

  bool can_be_locked() const { return ::flock(fd_, LOCK_EX | LOCK_NB) == 0; }

 private:
  void write(const char* data, std::size_t size) {
    for (std::size_t done = 0; done < size;) {
      const ssize_t wrote = ::write(fd_, data + done, size - done);
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote <= 0) throw_output_error(wrote < 0 ? errno : ENOSPC, "write", path_.string());
      done += static_cast<std::size_t>(wrote);
    }
  }
  void sync() {
    if (::fsync(fd_) != 0) throw_output_error(errno, "sync", path_.string());
  }

  fs::path path_, second_;
  int fd_ = -1;
};

fs::path nearest_folder(const fs::path& folder) {
  std::error_code error;
  fs::path there = fs::absolute(folder, error).lexically_normal();
  while (!fs::is_directory(there, error) && there != there.root_path()) there = there.parent_path();
  return there;
}

void check_room(Findings& f, const std::string& area, const std::string& where, std::int64_t free) {
  const std::string text = fmt::format("{}: {} free", where, human_bytes(static_cast<std::uint64_t>(free)));
  if (free < 256 * kMiB) f.bad(area, text, "make room: checkpoints alone need more (`vbon plan` says how much)");
  else if (free < 4096 * kMiB) f.warn(area, text, "see with `vbon plan` whether checkpoints and rollouts fit");
  else f.ok(area, "{}", text);
}

}  // namespace

void check_disk(Findings& f, const std::string& area, const fs::path& folder) {
  try {
    const fs::path there = nearest_folder(folder);
    const FileSystem system = file_system(there);
    const std::string where =
        there.lexically_normal() == fs::absolute(folder).lexically_normal()
            ? fmt::format("'{}' on {}", there.string(), system.name)
            : fmt::format("'{}' on {} (where '{}' will be)", there.string(), system.name, folder.string());
    const auto free = static_cast<std::int64_t>(fs::space(there).available);
    check_room(f, area, where, free);
    ProbeFile probe(there);
    const double speed = probe.write_speed(std::clamp(free / 8, kMiB, kWhole)), latency = probe.sync_latency();
    const std::string text =
        fmt::format("writes {:.0f} MB/s with sync, a small sync takes {:.2g} ms", speed / 1e6, latency * 1e3);
    if (speed < 20e6 || latency > 0.1)
      f.warn(area, text,
             "slow: every chunk and every step is synced; use a local disk, or larger chunks (train.chunk_prompts)");
    else f.ok(area, "{}", text);
    if (system.in_memory)
      f.warn(area, "this is memory, not a disk: what is written is gone after a restart of the machine",
             "fine for tests; else choose a disk");
    if (!probe.can_be_locked())
      f.warn(area,
             "files cannot be locked here (flock): a run that was killed on another node leaves a lock that you remove "
             "by hand",
             "mount with flock, or use another folder");
    if (probe.rename_is_visible())
      f.ok(area, "a renamed file is seen at once{}",
           system.network ? " on this node (other nodes may see it later)" : "");
    else f.bad(area, "a renamed file is not seen at once", "mount without attribute caching, or use another folder");
  } catch (const std::exception& e) {
    f.bad(area, e.what(), "choose a folder that can be written, or mend its permissions or quota");
  }
}

}  // namespace vbon::cli
