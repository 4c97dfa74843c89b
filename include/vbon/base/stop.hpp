// The wish to stop, set by a signal (SIGUSR1, SIGTERM, SIGINT) and polled at step boundaries. Handlers only set a flag.
#pragma once

namespace vbon::stop {

void install();       // handlers; also ignores SIGPIPE and SIGXFSZ, so that a full disk is an error code and no death
bool requested();     // this rank's own flag: ranks agree on it before acting
int signal_number();  // 0: none
void request(int signal = 0);  // for tests and for time limits
void clear();

// While one lives, a signal ends the process at once, with the exit code that asks to be started again: for work that
// is short, keeps nothing in between and would only be thrown away. A wish from before counts, too.
class AtOnce {
 public:
  AtOnce();
  ~AtOnce();
  AtOnce(const AtOnce&) = delete;
  AtOnce& operator=(const AtOnce&) = delete;
};

}  // namespace vbon::stop
