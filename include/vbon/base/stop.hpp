// The wish to stop, set by a signal (SIGUSR1, SIGTERM, SIGINT) and polled at step boundaries. Handlers only set a flag.
#pragma once

namespace vbon::stop {

void install();     // handlers; also ignores SIGPIPE and SIGXFSZ, so that a full disk is an error code and no death
bool requested();   // this rank's own flag: ranks agree on it before acting
int signal_number();  // 0: none
void request(int signal = 0);  // for tests and for time limits
void clear();

}  // namespace vbon::stop
