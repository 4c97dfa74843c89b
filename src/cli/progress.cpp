#include "vbon/cli/progress.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "cli/text_layout.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/words.hpp"

namespace vbon {
namespace {

constexpr double kWindow_s = 60.0;     // the rate is that of the last minute
constexpr double kPointEvery_s = 0.5;  // keeps the window short however often update() is called
constexpr double kDrawEvery_s = 0.1;

using Form = ProgressOutput::Form;

double steady_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Form chosen_form() {
  if (!log::is_root() || log::level() > log::Level::info) return Form::silent;
  return ::isatty(STDERR_FILENO) == 1 ? Form::bar : Form::lines;
}

int error_terminal_width() {
  winsize size = {};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string rate_text(double rate, const std::string& unit) {
  if (rate <= 0.0) return fmt::format("- {}/s", unit);
  if (rate < 0.1) return fmt::format("{:.3g} {}/min", rate * 60.0, unit);
  return fmt::format("{:.{}f} {}/s", rate, rate < 10.0 ? 2 : rate < 100.0 ? 1 : 0, unit);
}

}  // namespace

Progress::Progress(ProgressOptions options, ProgressOutput output) noexcept
    : options_(std::move(options)), output_(std::move(output)) {
  try {
    if (output_.form == Form::automatic) output_.form = chosen_form();
    if (!output_.now_s) output_.now_s = steady_now;
    if (!output_.line) output_.line = [](const std::string& text) { log::info("{}", text); };
    if (!output_.terminal) {
      output_.terminal = [](const std::string& text) {
        std::fwrite(text.data(), 1, text.size(), stderr);
        std::fflush(stderr);
      };
    }
    done_ = options_.done_before;
    start_s_ = now_s_ = shown_s_ = output_.now_s();
    window_.push_back({.time_s = start_s_, .done = done_});
  } catch (...) {
    output_.form = Form::silent;
  }
}

Progress::~Progress() {
  if (options_.total > 0 && done_ >= options_.total) finish();
  if (ended_ || output_.form == Form::silent) return;
  try {
    clear_bar();
    const std::string of_total = options_.total > 0 ? fmt::format("/{}", options_.total) : "";
    output_.line(fmt::format("{}: stopped at {}{} {}", options_.what, done_, of_total, options_.unit));
  } catch (...) {  // progress is never a reason to fail
  }
}

void Progress::update(std::int64_t done, std::string_view figures) noexcept {
  if (ended_ || output_.form == Form::silent) return;
  try {
    done_ = std::max(done_, done);
    now_s_ = std::max(now_s_, output_.now_s());
    figures_ = one_line(figures);
    // The newest point moves until it is old enough for another; the first one stays where the work began.
    if (window_.size() > 1 && now_s_ - window_[window_.size() - 2].time_s < kPointEvery_s) window_.pop_back();
    window_.push_back({.time_s = now_s_, .done = done_});
    // The oldest point is the last one before the window began, so that rare updates still have a rate.
    while (window_.size() > 2 && now_s_ - window_[1].time_s >= kWindow_s) window_.pop_front();
    show(/*last=*/false);
  } catch (...) {  // progress is never a reason to fail
  }
}

void Progress::finish() noexcept {
  if (ended_) return;
  ended_ = true;
  if (output_.form == Form::silent) return;
  try {
    now_s_ = std::max(now_s_, output_.now_s());
    show(/*last=*/true);
  } catch (...) {  // progress is never a reason to fail
  }
}

void Progress::show(bool last) {
  if (last) {
    clear_bar();
    output_.line(summary());
    return;
  }
  const bool bar = output_.form == Form::bar;
  const double every = bar ? kDrawEvery_s : options_.line_every_s;
  if (now_s_ - shown_s_ < every && !(bar && !drawn_)) return;
  shown_s_ = now_s_;
  if (!bar) return output_.line(line_text());
  if (!drawn_) log::set_line_start("\r\x1b[K");  // lines of the log take the bar's place until it is drawn again
  drawn_ = true;
  output_.terminal("\r\x1b[K" + bar_text());
}

void Progress::clear_bar() {
  if (!drawn_) return;
  drawn_ = false;
  log::set_line_start("");
  output_.terminal("\r\x1b[K");
}

double Progress::rate() const {
  const double seconds = now_s_ - window_.front().time_s;
  return seconds > 0.0 ? static_cast<double>(done_ - window_.front().done) / seconds : 0.0;
}

std::string Progress::eta() const {
  const double per_second = rate();
  if (options_.total <= 0) return {};
  if (per_second <= 0.0) return "ETA -";
  return "ETA " + human_seconds(static_cast<double>(std::max<std::int64_t>(options_.total - done_, 0)) / per_second);
}

std::string Progress::bar_text() const {
  constexpr std::size_t kCells = 20;
  std::string text = options_.what + " ";
  if (options_.total > 0) {
    const double share = std::clamp(static_cast<double>(done_) / static_cast<double>(options_.total), 0.0, 1.0);
    const auto filled = static_cast<std::size_t>(share * static_cast<double>(kCells));
    text += fmt::format("[{}{}] {:3.0f}% {}/{}", std::string(filled, '#'), std::string(kCells - filled, '.'),
                        std::floor(share * 100.0), done_, options_.total);
  } else {
    text += fmt::format("{}", done_);
  }
  text += "  " + rate_text(rate(), options_.unit);
  if (options_.total > 0) text += "  " + eta();
  if (!figures_.empty()) text += "  " + figures_;
  const int width = output_.width > 0 ? output_.width : error_terminal_width();
  return shortened(text, static_cast<std::size_t>(std::max(width - 1, 10)));
}

std::string Progress::line_text() const {
  std::string text = options_.what + ": ";
  if (options_.total > 0) {
    text += fmt::format("{}/{} {} ({:.0f}%), {}, {}", done_, options_.total, options_.unit,
                        std::floor(100.0 * static_cast<double>(done_) / static_cast<double>(options_.total)),
                        rate_text(rate(), options_.unit), eta());
  } else {
    text += fmt::format("{} {}, {}", done_, options_.unit, rate_text(rate(), options_.unit));
  }
  return figures_.empty() ? text : text + ", " + figures_;
}

std::string Progress::summary() const {
  const std::int64_t here = done_ - options_.done_before;
  const double seconds = now_s_ - start_s_;
  const double average = seconds > 0.0 ? static_cast<double>(here) / seconds : 0.0;
  std::string text = fmt::format("{}: {} {} in {} ({})", options_.what, here, options_.unit, human_seconds(seconds),
                                 rate_text(average, options_.unit));
  if (options_.done_before > 0) text += fmt::format(", {} with those done before", done_);
  return figures_.empty() ? text : text + ", " + figures_;
}

}  // namespace vbon
