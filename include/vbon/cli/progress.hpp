// Progress of long work, for whoever waits for it: on a terminal one line with a bar that is drawn over itself, else a
// line of the log every few seconds. Only the root speaks; with --quiet nobody does. Never throws. One thread at a
// time.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>

namespace vbon {

// Where progress goes; the defaults are the terminal at standard error and the log.
struct ProgressOutput {
  enum class Form { automatic, bar, lines, silent };
  Form form = Form::automatic;
  std::function<double()> now_s = {};                     // a clock that never runs back
  std::function<void(const std::string&)> terminal = {};  // raw text
  std::function<void(const std::string&)> line = {};      // one line of the log
  int width = 0;                                          // of the terminal; 0: as it is
};

struct ProgressOptions {
  std::string what;              // "pool"
  std::string unit = "items";    // "samples"
  std::int64_t total = 0;        // 0: not known
  std::int64_t done_before = 0;  // already there when the work began (resume): in the bar, not in the rate
  double line_every_s = 10.0;    // log.progress_every_s
};

class Progress {
 public:
  explicit Progress(ProgressOptions options, ProgressOutput output = {}) noexcept;
  ~Progress();  // work that ended without finish() leaves a line saying how far it came
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `done` of the total, with what was done before; `figures` are the few numbers that matter ("reward 0.31, KL 1.2").
  void update(std::int64_t done, std::string_view figures = {}) noexcept;
  void finish() noexcept;

 private:
  struct Point {
    double time_s;
    std::int64_t done;
  };
  void show(bool last);
  void clear_bar();
  double rate() const;  // units a second over the window; 0 where nothing was done
  std::string eta() const;
  std::string bar_text() const;
  std::string line_text() const;
  std::string summary() const;

  ProgressOptions options_;
  ProgressOutput output_;
  std::deque<Point> window_;
  std::int64_t done_ = 0;
  double start_s_ = 0.0;
  double now_s_ = 0.0;
  double shown_s_ = 0.0;
  std::string figures_;
  bool drawn_ = false;
  bool ended_ = false;
};

}  // namespace vbon
