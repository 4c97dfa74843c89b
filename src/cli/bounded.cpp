#include "cli/bounded.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "vbon/base/error.hpp"
#include "vbon/base/words.hpp"

namespace vbon::cli {
namespace {

constexpr std::size_t kMostOutput = 1 << 20;  // bytes of each stream; the rest is read and dropped

struct Pipe {
  int read = -1, write = -1;
  Pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw EnvironmentError("no pipe can be made: {}", std::strerror(errno));
    read = ends[0], write = ends[1];
  }
  ~Pipe() {
    close_write();
    if (read >= 0) ::close(read);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  void close_write() {
    if (write >= 0) ::close(std::exchange(write, -1));
  }
};

void write_all(int fd, const std::string& text) {
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t wrote = ::write(fd, text.data() + done, text.size() - done);
    if (wrote <= 0 && errno != EINTR) return;
    if (wrote > 0) done += static_cast<std::size_t>(wrote);
  }
}

// Reads both streams until they end or time is up; false: time is up.
bool collect(const std::array<int, 2>& ends, double timeout_s, ChildResult& result) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(timeout_s);
  std::array<pollfd, 2> open = {pollfd{ends[0], POLLIN, 0}, pollfd{ends[1], POLLIN, 0}};
  std::array<std::string*, 2> targets = {&result.output, &result.errors};
  while (open[0].fd >= 0 || open[1].fd >= 0) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
    if (left <= 0) return false;
    if (::poll(open.data(), open.size(), static_cast<int>(left)) < 0 && errno != EINTR) return false;
    for (std::size_t i = 0; i < open.size(); ++i) {
      if (open[i].fd < 0 || (open[i].revents & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
      std::array<char, 4096> buffer{};
      const ssize_t got = ::read(open[i].fd, buffer.data(), buffer.size());
      if (got <= 0) open[i].fd = -1;
      else if (targets[i]->size() < kMostOutput) targets[i]->append(buffer.data(), static_cast<std::size_t>(got));
    }
  }
  return true;
}

// Runs `child` (which does not return) with its own standard output and error, and waits for it.
ChildResult run(double timeout_s, const std::function<void(int report)>& child) {
  Pipe output, errors;
  const pid_t parent = ::getpid(), pid = ::fork();
  if (pid < 0) throw EnvironmentError("no process can be started: {}", std::strerror(errno));
  if (pid == 0) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(127);
    const int null = ::open("/dev/null", O_RDWR);
    ::dup2(null, STDIN_FILENO);
    ::dup2(errors.write, STDERR_FILENO);
    ::dup2(output.write, STDOUT_FILENO);
    child(output.write);
    ::_exit(127);
  }
  output.close_write();
  errors.close_write();
  ChildResult result;
  result.timed_out = !collect({output.read, errors.read}, timeout_s, result);
  if (result.timed_out) {
    ::kill(-pid, SIGKILL);
    ::kill(pid, SIGKILL);
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  result.ended = !result.timed_out && result.status == 0;
  return result;
}

}  // namespace

ChildResult run_in_child(double timeout_s, const std::function<std::string()>& work) {
  return run(timeout_s, [&](int report) {
    // What libraries print is no part of the result.
    const int own = ::fcntl(report, F_DUPFD_CLOEXEC, 3);
    ::dup2(STDERR_FILENO, STDOUT_FILENO);
    try {
      write_all(own, work());
      ::_exit(0);
    } catch (const std::exception& e) {
      write_all(STDERR_FILENO, e.what());
      ::_exit(1);
    }
  });
}

ChildResult run_program(double timeout_s, const std::vector<std::string>& command) {
  std::vector<char*> words;
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  return run(timeout_s, [&](int) {
    ::signal(SIGPIPE, SIG_DFL);
    ::execvp(words[0], words.data());
  });
}

std::string find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return ::access(name.c_str(), X_OK) == 0 ? name : "";
  const char* const path = std::getenv("PATH");
  for (const std::string& folder : split(path == nullptr ? "" : path, ':')) {
    const std::string file = (folder.empty() ? "." : folder) + "/" + name;
    struct stat info = {};
    if (::stat(file.c_str(), &info) == 0 && S_ISREG(info.st_mode) && ::access(file.c_str(), X_OK) == 0) return file;
  }
  return "";
}

}  // namespace vbon::cli
