#include "vbon/base/stop.hpp"

#include <csignal>
#include <cstdlib>
#include <initializer_list>

#include "vbon/base/error.hpp"

namespace vbon::stop {
namespace {

volatile std::sig_atomic_t flag = 0;
volatile std::sig_atomic_t last_signal = 0;
volatile std::sig_atomic_t at_once = 0;

void on_signal(int number) {
  if (at_once != 0) std::_Exit(static_cast<int>(ExitCode::requeue));
  if (flag != 0 && number == SIGINT) std::_Exit(130);  // a second Ctrl-C means now
  flag = 1;
  last_signal = number;
}

}  // namespace

void install() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  for (int number : {SIGUSR1, SIGTERM, SIGINT}) sigaction(number, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

bool requested() { return flag != 0; }
int signal_number() { return last_signal; }
void request(int signal) {
  last_signal = signal;
  flag = 1;
}
void clear() {
  flag = 0;
  last_signal = 0;
}

AtOnce::AtOnce() {
  at_once = 1;
  if (flag != 0) std::_Exit(static_cast<int>(ExitCode::requeue));
}
AtOnce::~AtOnce() { at_once = 0; }

}  // namespace vbon::stop
