// Where a rank's time goes: seconds per phase of a step, and what it slept.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <string_view>
#include <utility>

#include "vbon/comm/wait.hpp"

namespace vbon {

enum class Phase : std::size_t { generate, score, prepare, update, publish, store, evaluate };
inline constexpr std::array<std::string_view, 7> kPhaseNames = {"generate", "score", "prepare", "update",
                                                                "publish",  "store", "evaluate"};

class Phases {
 public:
  using Clock = std::chrono::steady_clock;

  // Adds the time of one scope to a phase, without what the waiter slept in it. Scopes within it count for it.
  class Scope {
   public:
    Scope(Phases& phases, Phase phase, const comm::Waiter& waiter)
        : phases_(phases), phase_(phase), waiter_(waiter), idle_before_(waiter.idle_seconds()), start_(Clock::now()),
          is_outermost_(!std::exchange(phases.in_scope_, true)) {}
    ~Scope() {
      if (!is_outermost_) return;
      phases_.in_scope_ = false;
      const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
      phases_.seconds_[static_cast<std::size_t>(phase_)] += seconds - (waiter_.idle_seconds() - idle_before_);
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Phases& phases_;
    Phase phase_;
    const comm::Waiter& waiter_;
    double idle_before_;
    Clock::time_point start_;
    bool is_outermost_;
  };

  double seconds(Phase phase) const { return seconds_[static_cast<std::size_t>(phase)]; }
  const std::array<double, kPhaseNames.size()>& all() const { return seconds_; }
  void clear() { seconds_.fill(0); }

 private:
  std::array<double, kPhaseNames.size()> seconds_{};
  bool in_scope_ = false;
};

}  // namespace vbon
