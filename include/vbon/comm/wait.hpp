// How a rank waits: it polls a few times, then sleeps with growing pauses, and gives up after a time without movement.
//
// One Waiter per process. Everything nonblocking of this rank registers as Progress, and whoever waits advances all of
// it: ranks may therefore wait for their pending operations in different orders without blocking each other.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vbon::comm {

class Progress {
 public:
  virtual ~Progress() = default;
  virtual bool advance() = 0;  // never blocks; true: something moved
  // What it knows about a wait that is given up, for the message; empty: nothing. May take a second.
  virtual std::string diagnosis() { return {}; }
};

// Something that will be over one day.
class Awaited {
 public:
  virtual ~Awaited() = default;
  virtual bool done() = 0;
  virtual std::uint64_t moves() const { return 0; }  // grows when a part of it is over: restarts the timeout's clock
  virtual std::string description() const = 0;       // "all_reduce #481 'gradients' for rank 3 on node7"
};

struct WaitOptions {
  double timeout_s = 300.0;  // without movement of what is awaited
  double spin_s = 50e-6;     // polling before the first pause
  double first_pause_s = 20e-6;
  double max_pause_s = 1e-3;
};

class Waiter {
 public:
  explicit Waiter(std::string who = "this process", WaitOptions options = {});
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;

  void add(Progress& progress);
  void remove(Progress& progress);
  bool advance();  // polls everything once; true: something moved

  // Returns when awaited.done(). EnvironmentError naming this rank, its host, the description and every diagnosis after
  // timeout_s without movement.
  void wait(Awaited& awaited);
  // The same for `seconds` at most, movement or not; false: not done by then. No error.
  bool wait_for(Awaited& awaited, double seconds);

  double idle_seconds() const { return idle_seconds_; }  // slept so far
  double timeout_s() const { return options_.timeout_s; }
  void limit(double timeout_s);  // for all waits from here on
  const std::string& who() const { return who_; }

 private:
  class Pause;
  std::string diagnoses();
  std::string who_;  // "rank 2 on node7"
  WaitOptions options_;
  std::vector<Progress*> registered_;
  double idle_seconds_ = 0.0;
};

}  // namespace vbon::comm
