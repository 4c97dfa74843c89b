#include "store/h5_trial.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <fstream>
#include <new>

#include "store/h5_blocks.hpp"
#include "store/hdf5_limits.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/words.hpp"
#include "vbon/store/hdf5.hpp"

namespace vbon {
namespace {

using detail::h5::kMaxDepth;
using detail::h5::kMaxNames;
constexpr std::uint64_t kMoreMemory = std::uint64_t{1} << 30;  // beside twice the file, beyond what is in use now
constexpr std::uint64_t kSeconds = 10;                         // of processor time, and one more for each kBytesASecond
constexpr std::uint64_t kBytesASecond = std::uint64_t{20} << 20;
constexpr std::uint64_t kWaitSeconds = 600;  // of the clock, and one more a MiB: for a disk that does not answer

// How the child ends: by itself with one of these, or by a signal.
enum Ending { kRead = 0, kRefused = 3, kNoMemory = 4 };

// What HDF5 calls damaged ends the trial; what we would refuse may be something that nobody asks for.
template <class Read>
void unless_refused(Read&& read) {
  try {
    read();
  } catch (const H5Damage&) {
    throw;
  } catch (const UserError&) {
  }
}

void read_group(const H5Group& group, int depth, std::size_t& objects) {
  require(depth < kMaxDepth, "too deep");
  for (const std::string& name : group.attribute_names()) unless_refused([&] { group.attribute(name); });
  for (const std::string& name : group.members()) {
    require(++objects <= kMaxNames, "too many objects");
    unless_refused([&] {
      if (group.has_group(name)) read_group(group.group(name), depth + 1, objects);
      else for_blocks(group.dataset(name), [](const auto&) {});
    });
  }
}

void limit(decltype(RLIMIT_CPU) resource, std::uint64_t most, std::uint64_t more = 0) {
  const rlimit value = {most, most + more};
  ::setrlimit(resource, &value);
}

// Bytes of address space in use.
std::uint64_t memory_in_use() {
  std::uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

// The handlers of others (MPI's prints where it was) are of no use to a process that is expected to die.
void prepare_to_die(std::uint64_t file_bytes) {
  for (const int signal : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGTERM, SIGINT, SIGALRM})
    ::signal(signal, SIG_DFL);
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_CPU, kSeconds + file_bytes / kBytesASecond, 5);  // then SIGXCPU, and SIGKILL for who ignores it
  limit(RLIMIT_AS, memory_in_use() + 2 * file_bytes + kMoreMemory);
  ::alarm(static_cast<unsigned>(kWaitSeconds + file_bytes / (std::uint64_t{1} << 20)));
#ifndef __SANITIZE_ADDRESS__  // whose report is wanted
  const int null = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  ::dup2(null, STDERR_FILENO);  // the C library says there how it found its memory
#endif
}

[[noreturn]] void be_the_child(const fs::path& path, std::uint64_t file_bytes, int report) {
  prepare_to_die(file_bytes);
  try {
    std::size_t objects = 0;
    read_group(H5File::open(path), 0, objects);
  } catch (const H5Damage& damage) {
    const std::string_view text = damage.what();
    if (::write(report, text.data(), std::min<std::size_t>(text.size(), PIPE_BUF)) < 0) ::_exit(kNoMemory);
    ::_exit(kRefused);
  } catch (const std::bad_alloc&) {
    ::_exit(kNoMemory);
  } catch (const std::exception&) {  // the reader will meet it and say it better
  }
  ::_exit(kRead);
}

std::string read_all(int fd) {
  std::string text;
  std::array<char, PIPE_BUF> buffer{};
  for (;;) {
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
}

int wait_for(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    if (errno != EINTR) throw InternalError(fmt::format("waitpid: {}", std::strerror(errno)));
  return status;
}

}  // namespace

void try_reading_h5(const fs::path& path) {
  std::error_code error;
  const std::uint64_t bytes = fs::file_size(path, error);
  if (error) throw_input_error(error.value(), "stat", path.string());
  std::array<int, 2> ends{};
  const pid_t parent = ::getpid();
  const pid_t child = ::pipe2(ends.data(), O_CLOEXEC) == 0 ? ::fork() : -1;
  if (child < 0)
    throw EnvironmentError("no process can be started to look at '{}': {}", path.string(), std::strerror(errno));
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() == parent) be_the_child(path, bytes, ends[1]);
    ::_exit(kRead);
  }
  ::close(ends[1]);
  const std::string report = read_all(ends[0]);
  ::close(ends[0]);
  const int status = wait_for(child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == kRead) return;
  if (WIFEXITED(status) && WEXITSTATUS(status) == kRefused) throw UserError(report);
  if (WIFEXITED(status) && WEXITSTATUS(status) == kNoMemory)
    throw UserError("'{}' is damaged: HDF5 wants more memory for it than {} could need; make it again", path.string(),
                    human_bytes(bytes));
  check(WIFSIGNALED(status), "a trial ends by itself or by a signal");
  const int signal = WTERMSIG(status);
  if (signal == SIGTERM || signal == SIGINT || signal == SIGKILL || signal == SIGALRM)
    throw EnvironmentError("'{}' was being looked at when somebody ended that ({})", path.string(),
                           ::strsignal(signal));
  throw UserError("'{}' is damaged: the HDF5 library {} when it reads it; make it again", path.string(),
                  signal == SIGXCPU ? "does not come to an end" : fmt::format("crashes ({})", ::strsignal(signal)));
}

}  // namespace vbon
