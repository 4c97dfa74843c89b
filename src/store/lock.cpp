#include "vbon/store/lock.hpp"

#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <sstream>
#include <system_error>
#include <type_traits>

#include "store/descriptor.hpp"
#include "store/strict_json.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/host.hpp"
#include "vbon/base/log.hpp"

namespace vbon {
namespace {

constexpr int kAttempts = 100;  // a holder may let go, or another may take over, between two looks

std::string text_of(const LockHolder& holder) {
  return nlohmann::ordered_json{{"host", holder.host},
                                {"pid", holder.pid},
                                {"job", holder.job},
                                {"started", holder.started},
                                {"boot", holder.boot},
                                {"pid_namespace", holder.pid_namespace},
                                {"start_ticks", holder.start_ticks}}
             .dump() +
         "\n";
}

// Who the file says has it; all empty when it is cut or no lock of ours (its holder died while writing).
LockHolder read_holder(const fs::path& path) {
  LockHolder holder;
  try {
    const nlohmann::json json = parse_strict_json(read_file(path, 1 << 16), 1, "'" + path.string() + "'");
    holder.host = json.at("host").get<std::string>();
    holder.pid = json.at("pid").get<std::int64_t>();
    holder.job = json.at("job").get<std::string>();
    holder.started = json.at("started").get<std::string>();
    holder.boot = json.value("boot", "");  // these three: not in locks of older versions
    holder.pid_namespace = json.value("pid_namespace", "");
    holder.start_ticks = json.value("start_ticks", std::int64_t{0});
  } catch (const nlohmann::json::exception&) {
    return {};
  } catch (const UserError&) {
    return {};
  }
  return holder;
}

std::string boot_id() {
  std::string id;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), id);
  return id;
}

// Field 22 of /proc/PID/stat; 0: no such process, or no such file here.
std::int64_t start_ticks_of(std::int64_t pid) {
  std::string text;
  std::getline(std::ifstream(fmt::format("/proc/{}/stat", pid)), text);
  const std::size_t name_end = text.rfind(')');  // the name before it may hold anything
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(text.substr(name_end + 1));
  std::string skipped;
  for (int field = 3; field < 22; ++field) fields >> skipped;
  std::int64_t ticks = 0;
  return fields >> ticks ? ticks : 0;
}

// Whether the open file is still the one of that name (and not one that its holder has removed).
bool is_current(int fd, const fs::path& path) {
  struct stat open_file = {}, named = {};
  return ::fstat(fd, &open_file) == 0 && ::stat(path.c_str(), &named) == 0 && open_file.st_ino == named.st_ino &&
         open_file.st_dev == named.st_dev;
}

void write_holder(int fd, const LockHolder& holder, const fs::path& path) {
  const std::string text = text_of(holder);
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()) ||
      ::fsync(fd) != 0)
    throw_output_error(errno, "write", path.string());
}

// What the lock is of: its folder, or for NAME.lock, NAME.
fs::path locked_by(const fs::path& lock) {
  return lock.extension() == ".lock" ? fs::path(lock).replace_extension() : lock.parent_path();
}

[[noreturn]] void refuse(const fs::path& path, const LockHolder& holder) {
  throw UserError(
      "'{}' is locked: process {} on {}{} has been at work on it since {}. Wait for it or stop it; if it is "
      "gone, remove '{}'",
      locked_by(path).string(), holder.pid, holder.host.empty() ? "an unknown host" : holder.host,
      holder.job.empty() ? "" : fmt::format(" (job {})", holder.job),
      holder.started.empty() ? "an unknown time" : holder.started, path.string());
}

enum class Flock { taken, held_by_another, unsupported };

Flock try_flock(int fd, const fs::path& path) {
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return Flock::taken;
  if (errno == EWOULDBLOCK) return Flock::held_by_another;
  if (errno == ENOSYS || errno == ENOTSUP || errno == ENOLCK || errno == EINVAL) return Flock::unsupported;
  throw_output_error(errno, "lock", path.string());
}

}  // namespace

struct FileLock::Held {
  fs::path path;
  Descriptor file;
  ~Held() {
    if (file.fd() >= 0 && is_current(file.fd(), path)) ::unlink(path.c_str());
  }
};

FileLock::FileLock(const fs::path& path, LockHolder holder) : held_(std::make_unique<Held>()) {
  LockHolder me = this_process();
  me.job = holder.job;
  if (!holder.host.empty()) me.host = holder.host;
  holder = std::move(me);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    Descriptor file(path, O_RDWR | O_CREAT | O_EXCL);
    const bool made = file.fd() >= 0;
    if (!made && errno != EEXIST) throw_output_error(errno, "create", path.string());
    if (!made) file = Descriptor(path, O_RDWR);
    if (!made && file.fd() < 0) {
      if (errno == ENOENT) continue;  // let go since
      throw_output_error(errno, "open", path.string());
    }
    const Flock flock = try_flock(file.fd(), path);
    const LockHolder before = made ? LockHolder{} : read_holder(path);
    if (flock == Flock::held_by_another) refuse(path, before);
    if (flock == Flock::unsupported && !made && !is_gone(before)) refuse(path, before);
    if (!is_current(file.fd(), path)) continue;
    if (!made)
      log::warn("taking over the lock '{}' that process {} on {} left behind", path.string(), before.pid, before.host);
    write_holder(file.fd(), holder, path);
    held_->path = path;
    held_->file = std::move(file);
    return;
  }
  throw EnvironmentError("'{}' changes hands all the time; try again", path.string());
}

FileLock::FileLock(FileLock&&) noexcept = default;
FileLock& FileLock::operator=(FileLock&&) noexcept = default;
FileLock::~FileLock() = default;
const fs::path& FileLock::path() const { return held_->path; }

std::optional<LockHolder> lock_holder(const fs::path& path) {
  Descriptor file(path, O_RDWR);
  if (file.fd() < 0) file = Descriptor(path, O_RDONLY);
  if (file.fd() < 0) return std::nullopt;
  const Flock flock = try_flock(file.fd(), path);  // given back when the file is closed
  LockHolder holder = read_holder(path);
  if (flock == Flock::taken || (flock == Flock::unsupported && is_gone(holder))) return std::nullopt;
  return holder;
}

LockHolder this_process() {
  LockHolder me{.host = host_name(), .pid = ::getpid(), .started = utc_now(), .boot = boot_id()};
  std::error_code ignored;
  me.pid_namespace = fs::read_symlink("/proc/self/ns/pid", ignored).string();
  me.start_ticks = start_ticks_of(me.pid);
  return me;
}

bool is_gone(const LockHolder& holder) {
  if (holder.host != host_name() || holder.pid <= 0) return false;
  const LockHolder me = this_process();
  // An empty one is not known.
  const auto differ = [](const auto& a, const auto& b) {
    const std::remove_cvref_t<decltype(a)> unknown{};
    return a != unknown && b != unknown && a != b;
  };
  if (differ(holder.boot, me.boot)) return true;
  if (differ(holder.pid_namespace, me.pid_namespace)) return false;
  if (::kill(static_cast<pid_t>(holder.pid), 0) != 0 && errno == ESRCH) return true;
  return differ(holder.start_ticks, start_ticks_of(holder.pid));
}

}  // namespace vbon
