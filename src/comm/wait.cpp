#include "vbon/comm/wait.hpp"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "vbon/base/error.hpp"

namespace vbon::comm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kAbsent = std::chrono::seconds(1);

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

// The rhythm of one wait: spin, then pauses that grow by half until something moves.
class Waiter::Pause {
 public:
  explicit Pause(Waiter& waiter) : waiter_(waiter) { restart(); }

  void restart() {
    spin_start_ = Clock::now();
    pause_s_ = waiter_.options_.first_pause_s;
  }

  void take(double at_most_s) {
    if (since(spin_start_) < waiter_.options_.spin_s) return;
    const auto start = Clock::now();
    std::this_thread::sleep_for(std::chrono::duration<double>(std::min(pause_s_, at_most_s)));
    waiter_.idle_seconds_ += since(start);
    pause_s_ = std::min(pause_s_ * 1.5, waiter_.options_.max_pause_s);
  }

 private:
  Waiter& waiter_;
  Clock::time_point spin_start_;
  double pause_s_ = 0.0;
};

Waiter::Waiter(std::string who, WaitOptions options) : who_(std::move(who)), options_(options) {}

void Waiter::add(Progress& progress) { registered_.push_back(&progress); }

void Waiter::remove(Progress& progress) { std::erase(registered_, &progress); }

void Waiter::limit(double timeout_s) {
  check(timeout_s > 0.0, "a timeout is positive");
  options_.timeout_s = timeout_s;
}

bool Waiter::advance() {
  bool moved = false;
  for (std::size_t i = 0; i < registered_.size(); ++i) moved = registered_[i]->advance() || moved;
  return moved;
}

std::string Waiter::diagnoses() {
  std::string all;
  for (std::size_t i = 0; i < registered_.size(); ++i)
    if (const std::string one = registered_[i]->diagnosis(); !one.empty()) all += "; " + one;
  return all;
}

void Waiter::wait(Awaited& awaited) {
  Pause pause(*this);
  auto last_move = Clock::now(), last_look = last_move;
  std::uint64_t moves = awaited.moves();
  while (true) {
    const bool moved = advance();
    if (awaited.done()) return;
    if (moved) pause.restart();
    // Between two looks is a pause of milliseconds: after much more we were stopped ourselves, and blame nobody for it.
    // One reading of the clock a round: a stop between two readings would count as a wait.
    const auto look = Clock::now();
    if (look - last_look > kAbsent) last_move += look - last_look;
    last_look = look;
    if (std::exchange(moves, awaited.moves()) != moves) last_move = look;
    const double stalled_s = std::chrono::duration<double>(look - last_move).count();
    if (stalled_s > options_.timeout_s)
      throw EnvironmentError("{} waited {:.3g} s in {}: a peer is stalled or lost{}", who_, stalled_s,
                             awaited.description(), diagnoses());
    pause.take(options_.timeout_s - stalled_s + 1e-6);
  }
}

bool Waiter::wait_for(Awaited& awaited, double seconds) {
  Pause pause(*this);
  const auto start = Clock::now();
  while (true) {
    const bool moved = advance();
    if (awaited.done()) return true;
    const double left_s = seconds - since(start);
    if (left_s <= 0.0) return false;
    if (moved) pause.restart();
    pause.take(left_s);
  }
}

}  // namespace vbon::comm
