#include "reward/child_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "vbon/base/error.hpp"

namespace vbon {
namespace {

constexpr double kPatience_s = 1.0;  // for a program to end by itself once its input has ended
constexpr double kKillWait_s = 3.0;  // for the kernel to bring what was killed to an end

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Pipe {
  Descriptor read;
  Descriptor write;
};

// Numbers above those of the standard streams, which the child overwrites.
Descriptor above_standard(Descriptor end) {
  if (end.value() > STDERR_FILENO) return end;
  Descriptor moved(::fcntl(end.value(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  if (!moved.is_open()) throw EnvironmentError("cannot start a reward program: {}", std::strerror(errno));
  return moved;
}

Pipe make_pipe() {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) throw EnvironmentError("cannot start a reward program: {}", std::strerror(errno));
  Descriptor read(ends[0]);
  Descriptor write(ends[1]);
  return {.read = above_standard(std::move(read)), .write = above_standard(std::move(write))};
}

void make_nonblocking(const Descriptor& end) {
  ::fcntl(end.value(), F_SETFL, ::fcntl(end.value(), F_GETFL) | O_NONBLOCK);
}

struct Plumbing {
  Pipe input = make_pipe();
  Pipe output = make_pipe();
  Pipe errors = make_pipe();
  Pipe lifeline = make_pipe();
  Pipe status = make_pipe();
  Pipe start = make_pipe();  // errno of a start that failed; empty if it worked
};

// From here to the end of guard(): code of forked processes, which allocates nothing and returns nowhere.

void close_between(int first, int last) {
  if (first > last || ::close_range(static_cast<unsigned>(first), static_cast<unsigned>(last), 0) == 0) return;
  for (int fd = first; fd <= last && fd < 65536; ++fd) ::close(fd);  // a kernel before 5.9
}

// All but the standard streams and these three.
void close_all_but(std::array<int, 3> kept) {
  std::sort(kept.begin(), kept.end());
  int first = STDERR_FILENO + 1;
  for (const int fd : kept) {
    close_between(first, fd - 1);
    first = fd + 1;
  }
  close_between(first, std::numeric_limits<int>::max());
}

// What we or our launcher hold open is none of the program's business.
void close_on_exec_from(int first) {
  constexpr unsigned kCloseOnExec = 4;  // CLOSE_RANGE_CLOEXEC, which older headers lack
  if (::close_range(static_cast<unsigned>(first), ~0u, kCloseOnExec) == 0) return;
  for (int fd = first; fd < 65536; ++fd) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
}

void silence_standard_streams() {
  const int null = ::open("/dev/null", O_RDWR);
  for (int fd = 0; fd <= STDERR_FILENO; ++fd) ::dup2(null, fd);
}

constexpr std::array<int, 5> kIgnored = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGQUIT};

[[noreturn]] void become_program(const Plumbing& pipes, char* const* arguments, pid_t guardian) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != guardian) ::_exit(127);  // it ended before the line above
  ::dup2(pipes.input.read.value(), STDIN_FILENO);
  ::dup2(pipes.output.write.value(), STDOUT_FILENO);
  ::dup2(pipes.errors.write.value(), STDERR_FILENO);
  // Signals that ask a whole job to stop (Slurm sends them to every process of a step) are ours to act on: the program
  // is needed until the checkpoint is written, and ends when its input ends. They stay ignored as the guardian set
  // them.
  ::signal(SIGPIPE, SIG_DFL);
  ::signal(SIGCHLD, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  close_on_exec_from(STDERR_FILENO + 1);
  ::execvp(arguments[0], arguments);
  const int error = errno;
  [[maybe_unused]] const ssize_t written = ::write(pipes.start.write.value(), &error, sizeof error);
  ::_exit(127);
}

// Kills descendants that left the program's group: the kernel hands them to us as they are orphaned.
void kill_orphans() {
  std::array<char, 4096> text{};
  for (int round = 0; round < 2000; ++round) {
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    const int children = ::open("/proc/thread-self/children", O_RDONLY);
    const ssize_t length = children < 0 ? 0 : ::read(children, text.data(), text.size() - 1);
    if (children >= 0) ::close(children);
    if (length <= 0) return;
    text[static_cast<std::size_t>(length)] = '\0';
    for (char* word = text.data(); *word != '\0';) {
      char* end = nullptr;
      const long pid = std::strtol(word, &end, 10);
      if (end == word || *end != ' ') break;  // also a number that the buffer cut: it would be another's
      if (pid > 1) ::kill(static_cast<pid_t>(pid), SIGKILL);
      word = end;
    }
    ::usleep(1000);
  }
}

[[noreturn]] void guard(const Plumbing& pipes, char* const* arguments) {
  ::setsid();  // what is sent to our parent's group or terminal does not reach us
  for (const int number : kIgnored) ::signal(number, SIG_IGN);
  ::prctl(PR_SET_NAME, "vbon-guardian");
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  sigset_t child_signal;
  sigemptyset(&child_signal);
  sigaddset(&child_signal, SIGCHLD);
  ::signal(SIGCHLD, SIG_DFL);
  ::sigprocmask(SIG_SETMASK, &child_signal, nullptr);

  const pid_t self = ::getpid();
  const pid_t program = ::fork();
  if (program == 0) become_program(pipes, arguments, self);
  if (program < 0) {
    const int error = errno;
    [[maybe_unused]] const ssize_t written = ::write(pipes.start.write.value(), &error, sizeof error);
    ::_exit(1);
  }
  ::setpgid(program, program);
  silence_standard_streams();
  const int lifeline = pipes.lifeline.read.value();
  const int report = pipes.status.write.value();
  const int ended = ::signalfd(-1, &child_signal, SFD_NONBLOCK);
  close_all_but({lifeline, report, ended});  // other ends held here would hide that a side has closed

  for (;;) {
    std::array<pollfd, 2> waits = {{{lifeline, POLLIN, 0}, {ended, POLLIN, 0}}};
    if (::poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR) break;
    if (waits[0].revents != 0) break;
    signalfd_siginfo ignored;
    while (::read(ended, &ignored, sizeof ignored) > 0) {
    }
    siginfo_t state = {};
    // Seen but not reaped: while it is a zombie its number, and so its group's, cannot be given to another.
    if (::waitid(P_PID, static_cast<id_t>(program), &state, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        state.si_pid == program)
      break;
  }
  ::kill(-program, SIGKILL);
  int status = 0;
  pid_t reaped = 0;
  for (int round = 0; round < 2000 && (reaped = ::waitpid(program, &status, WNOHANG)) == 0; ++round) ::usleep(1000);
  kill_orphans();
  if (reaped == program) {
    [[maybe_unused]] const ssize_t written = ::write(report, &status, sizeof status);
  }
  ::_exit(0);
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void Descriptor::close() noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

ChildProcess::ChildProcess(const std::vector<std::string>& command) {
  require(!command.empty() && !command[0].empty(), "a reward program needs a command: its name and its arguments");
  std::vector<std::string> words = command;
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  ::signal(SIGPIPE, SIG_IGN);  // a program that is gone is an error code of write(), and not our death

  Descriptor start;
  {
    Plumbing pipes;
    guardian_ = ::fork();
    if (guardian_ == 0) guard(pipes, arguments.data());
    if (guardian_ < 0)
      throw EnvironmentError("cannot start the reward program '{}': {}", command[0], std::strerror(errno));
    input_ = std::move(pipes.input.write);
    output_ = std::move(pipes.output.read);
    errors_ = std::move(pipes.errors.read);
    lifeline_ = std::move(pipes.lifeline.write);
    status_ = std::move(pipes.status.read);
    start = std::move(pipes.start.read);
  }
  for (const Descriptor* end : {&input_, &output_, &errors_, &status_}) make_nonblocking(*end);
  int error = 0;
  ssize_t got = 0;
  while ((got = ::read(start.value(), &error, sizeof error)) < 0 && errno == EINTR) {
  }
  if (got == 0) return;
  kill();
  throw UserError(
      "cannot start the reward program '{}': {}; give a program that can be run here (a name in PATH, or a path)",
      command[0], std::strerror(error));
}

ChildProcess::~ChildProcess() {
  input_.close();
  if (lifeline_.is_open()) ending(kPatience_s);
  kill();
}

std::optional<std::string> ChildProcess::ending(double seconds) {
  const double until = now_s() + seconds;
  while (!wait_status_ && !lost_guardian_) {
    int status = 0;
    const ssize_t got = ::read(status_.value(), &status, sizeof status);
    if (got == sizeof status) {
      wait_status_ = status;
    } else if (got == 0) {
      lost_guardian_ = true;
    } else {
      const double left = until - now_s();
      if (left <= 0.0) return std::nullopt;
      pollfd wait = {status_.value(), POLLIN, 0};
      ::poll(&wait, 1, static_cast<int>(left * 1000.0) + 1);
    }
  }
  if (!wait_status_) return "the loss of the process that watches over it";
  if (WIFSIGNALED(*wait_status_)) {
    const int number = WTERMSIG(*wait_status_);
    return fmt::format("signal {} ({})", number, ::strsignal(number));
  }
  return fmt::format("exit status {}", WEXITSTATUS(*wait_status_));
}

bool ChildProcess::killed_by_signal() const { return lost_guardian_ || (wait_status_ && WIFSIGNALED(*wait_status_)); }

void ChildProcess::kill() noexcept {
  input_.close();
  lifeline_.close();
  if (guardian_ < 0) return;
  for (const double until = now_s() + kKillWait_s; now_s() < until; ::usleep(500)) {
    const pid_t reaped = ::waitpid(guardian_, nullptr, WNOHANG);
    if (reaped == guardian_ || (reaped < 0 && errno == ECHILD)) break;
  }
  guardian_ = -1;
}

}  // namespace vbon
