// A user's program with pipes to its standard input, output and error, that never outlives us.
//
// Between us and the program stands a guardian, a small process of ours in a session of its own. It holds the reading
// end of a pipe whose writing end only we hold: when we end, in whatever way (also kill -9), it reads the end of that
// pipe and kills the program, its process group and all its descendants. If the guardian itself is killed, the kernel
// kills the program (PR_SET_PDEATHSIG). Start it before threads, MPI and CUDA: it forks.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace vbon {

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor() { close(); }

  int value() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  void close() noexcept;

 private:
  int fd_ = -1;
};

class ChildProcess {
 public:
  // Looks the program up as a shell would (PATH), without a shell. UserError if it cannot be started.
  explicit ChildProcess(const std::vector<std::string>& command);
  ~ChildProcess();  // closes its input, waits a moment for it to end by itself, then kills it
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // Non-blocking ends; the owner of this object polls them.
  Descriptor& input() { return input_; }
  Descriptor& output() { return output_; }
  Descriptor& errors() { return errors_; }
  // Readable once the program has ended.
  int ended_fd() const { return status_.value(); }

  // "exit status 3", "signal 9 (Killed)"; none while it runs. Waits up to `seconds` for the end.
  std::optional<std::string> ending(double seconds = 0.0);
  bool killed_by_signal() const;
  void kill() noexcept;  // the program and all its descendants, now

 private:
  pid_t guardian_ = -1;
  Descriptor input_;
  Descriptor output_;
  Descriptor errors_;
  Descriptor lifeline_;  // closing it is the order to kill
  Descriptor status_;    // the guardian writes the program's wait status into it
  std::optional<int> wait_status_;
  bool lost_guardian_ = false;
};

}  // namespace vbon
