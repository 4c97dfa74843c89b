#include "vbon/reward/exec.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <deque>
#include <limits>
#include <nlohmann/json.hpp>

#include "reward/child_process.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/words.hpp"

namespace vbon {
namespace {

constexpr std::size_t kReadBytes = 1 << 16;
constexpr std::size_t kPendingBytes = 1 << 17;  // requests written out as text ahead of the pipe
constexpr std::size_t kErrorLines = 10;
constexpr std::size_t kErrorLineBytes = 300;

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// For messages: printable, valid UTF-8, short.
std::string shown(std::string_view text, std::size_t most = 120) {
  std::string out(text.substr(0, most));
  while (!out.empty() && !is_valid_utf8(out) && out.size() + 4 > most) out.pop_back();
  const bool valid = is_valid_utf8(out);
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F || (!valid && static_cast<unsigned char>(c) >= 0x80)) c = '?';
  return text.size() > most ? out + "…" : out;
}

std::string request_line(const ExecRequest& request) {
  const nlohmann::ordered_json json = {{"prompt", request.prompt}, {"response", request.response}};
  // Sampled tokens need not be whole characters: what is no UTF-8 goes out as U+FFFD.
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

// The number in {"reward": number}; otherwise what is wrong with the line.
double parse_answer(std::string_view line, std::string& problem) {
  problem.clear();
  try {
    const auto json = nlohmann::json::parse(line);
    const auto reward = json.is_object() ? json.find("reward") : json.end();
    if (!json.is_object()) {
      problem = "is no JSON object";
    } else if (reward == json.end()) {
      problem = "has no \"reward\"";
    } else if (!reward->is_number()) {
      problem = "has a \"reward\" that is no number";
    } else if (const double value = reward->get<double>();
               std::abs(value) <= static_cast<double>(std::numeric_limits<float>::max())) {
      return value;
    } else {
      problem = "has a \"reward\" that is not finite";
    }
  } catch (const nlohmann::json::out_of_range&) {
    problem = "has a number that is not finite";
  } catch (const nlohmann::json::exception&) {
    const bool not_finite =
        line.find("NaN") != std::string_view::npos || line.find("nfinity") != std::string_view::npos;
    problem = not_finite ? "is not JSON: NaN and Infinity are no rewards" : "is not JSON";
  }
  return 0.0;
}

// The last lines of what the program says on its standard error.
class ErrorTail {
 public:
  void add(std::string_view bytes) {
    for (const char c : bytes) {
      if (c != '\n') {
        if (line_.size() < kErrorLineBytes) line_ += c;
      } else if (!line_.empty()) {
        lines_.push_back(std::move(line_));
        line_.clear();
        if (lines_.size() > kErrorLines) lines_.pop_front();
      }
    }
  }
  std::string text() const {
    std::string out;
    for (const std::string& line : lines_) out += "\n  | " + shown(line, kErrorLineBytes);
    if (!line_.empty()) out += "\n  | " + shown(line_, kErrorLineBytes);
    return out.empty() ? "; it wrote nothing to its standard error" : "; its last words on standard error:" + out;
  }

 private:
  std::deque<std::string> lines_;
  std::string line_;
};

enum class ReadResult { data, nothing, end };

ReadResult read_some(const Descriptor& from, std::string& to) {
  std::array<char, kReadBytes> buffer{};
  const ssize_t got = ::read(from.value(), buffer.data(), buffer.size());
  if (got > 0) to.assign(buffer.data(), static_cast<std::size_t>(got));
  if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return ReadResult::end;
  return got > 0 ? ReadResult::data : ReadResult::nothing;
}

}  // namespace

struct ExecProgram::State {
  explicit State(ExecOptions given) : options(std::move(given)), process(options.command) {}

  ExecOptions options;
  ChildProcess process;
  ErrorTail errors;
  std::string partial;  // bytes of an answer whose line has not ended
  bool worked = false;  // a call has been answered
  bool failed = false;

  // Of the call that is running.
  std::span<const ExecRequest> requests;
  std::vector<double> rewards;
  std::string pending;              // text on its way to the program
  std::size_t num_written_out = 0;  // requests that are in `pending` or through

  std::vector<double> score(std::span<const ExecRequest> all);
  void exchange(double until);
  void write_requests();
  void read_answers();
  void take_answers(std::string_view bytes);
  void drain_errors();
  void check_unasked();
  std::string progress() const { return fmt::format("after {} of {} answers", rewards.size(), requests.size()); }
  [[noreturn]] void fail(const std::string& what, bool environment = false);
  [[noreturn]] void fail_ended(const std::string& otherwise);
};

// Ends the program and throws; what it said is in the message.
void ExecProgram::State::fail(const std::string& what, bool environment) {
  failed = true;
  drain_errors();
  process.kill();
  const std::string text = fmt::format("the reward program '{}' {}{}", options.command[0], what, errors.text());
  if (environment && worked) throw EnvironmentError(text);
  throw UserError(text);
}

// The program's side of a pipe is closed: because it ended, or it did so and lives on.
void ExecProgram::State::fail_ended(const std::string& otherwise) {
  const auto ending = process.ending(1.0);
  if (!ending) fail(fmt::format("{} {}", otherwise, progress()));
  fail(fmt::format("ended with {} {}; it must run until its input ends", *ending, progress()),
       process.killed_by_signal());
}

void ExecProgram::State::drain_errors() {
  std::string bytes;
  // A flood is not followed to its end: what is in the pipe now is enough.
  for (int round = 0; round < 32 && process.errors().is_open(); ++round) {
    const ReadResult result = read_some(process.errors(), bytes);
    if (result == ReadResult::data) errors.add(bytes);
    if (result == ReadResult::end) process.errors().close();
    if (result != ReadResult::data) return;
  }
}

void ExecProgram::State::write_requests() {
  while (pending.size() < kPendingBytes && num_written_out < requests.size())
    pending += request_line(requests[num_written_out++]);
  const ssize_t written = ::write(process.input().value(), pending.data(), pending.size());
  if (written > 0) pending.erase(0, static_cast<std::size_t>(written));
  if (written < 0 && errno == EPIPE) {
    process.input().close();
  } else if (written < 0 && errno != EAGAIN && errno != EINTR) {
    fail(fmt::format("cannot be written to: {}", std::strerror(errno)), /*environment=*/true);
  }
}

void ExecProgram::State::take_answers(std::string_view bytes) {
  std::string problem;
  while (!bytes.empty()) {
    const std::size_t end = bytes.find('\n');
    const std::string_view part = bytes.substr(0, end);
    if (partial.size() + part.size() > options.max_line_bytes)
      fail(fmt::format("answers with a line of more than {} bytes: '{}'", options.max_line_bytes,
                       shown(partial + std::string(part.substr(0, 200)))));
    partial += part;
    if (end == std::string_view::npos) return;
    bytes.remove_prefix(end + 1);
    // Also an answer that comes before its request is one too many.
    if (rewards.size() >= num_written_out)
      fail(
          fmt::format("answers more than it is asked: '{}' {}; one line for each request", shown(partial), progress()));
    rewards.push_back(parse_answer(partial, problem));
    if (!problem.empty())
      fail(
          fmt::format("gave the answer '{}', which {}; each line of its standard output must be {{\"reward\": number}} "
                      "(messages go to standard error)",
                      shown(partial), problem));
    partial.clear();
  }
}

void ExecProgram::State::read_answers() {
  std::string bytes;
  const ReadResult result = read_some(process.output(), bytes);
  if (result == ReadResult::data) take_answers(bytes);
  if (result == ReadResult::end) fail_ended("closed its standard output");
}

// Before anything is asked nothing may be said: it would be taken for the answer to what follows.
void ExecProgram::State::check_unasked() {
  requests = {};
  rewards.clear();
  pending.clear();
  num_written_out = 0;
  std::string bytes;
  if (read_some(process.output(), bytes) == ReadResult::data) take_answers(bytes);
  if (!partial.empty()) fail(fmt::format("answers more than it is asked: '{}'", shown(partial)));
}

void ExecProgram::State::exchange(double until) {
  while (rewards.size() < requests.size()) {
    const bool writing = !pending.empty() || num_written_out < requests.size();
    if (writing && !process.input().is_open()) fail_ended("closed its standard input");
    const double left = until - now_s();
    if (left <= 0.0)
      fail(fmt::format(
               "did not answer in time {}; it must write out (flush) every answer at once, or 'reward.timeout_s' "
               "is too short",
               progress()),
           /*environment=*/true);
    std::array<pollfd, 3> waits = {{{process.output().value(), POLLIN, 0},
                                    {process.errors().is_open() ? process.errors().value() : -1, POLLIN, 0},
                                    {writing ? process.input().value() : -1, POLLOUT, 0}}};
    const double milliseconds = std::min(left * 1000.0 + 1.0, 1e6);
    if (::poll(waits.data(), waits.size(), static_cast<int>(milliseconds)) < 0) {
      if (errno == EINTR) continue;
      fail(fmt::format("cannot be waited for: {}", std::strerror(errno)), /*environment=*/true);
    }
    if (waits[1].revents != 0) drain_errors();
    if (waits[0].revents != 0) read_answers();
    if (waits[2].revents != 0 && rewards.size() < requests.size()) write_requests();
  }
}

std::vector<double> ExecProgram::State::score(std::span<const ExecRequest> all) {
  require(!failed, "the reward program '{}' has failed before", options.command[0]);
  drain_errors();
  check_unasked();
  requests = all;
  exchange(now_s() + options.timeout_s + (worked ? 0.0 : options.startup_s));
  if (!partial.empty()) fail(fmt::format("answers more than it is asked: '{}' {}", shown(partial), progress()));
  requests = {};
  worked = worked || !all.empty();
  return std::move(rewards);
}

ExecProgram::ExecProgram(ExecOptions options) : state_(std::make_unique<State>(std::move(options))) {}
ExecProgram::~ExecProgram() = default;
ExecProgram::ExecProgram(ExecProgram&&) noexcept = default;
ExecProgram& ExecProgram::operator=(ExecProgram&&) noexcept = default;

std::vector<double> ExecProgram::score(std::span<const ExecRequest> requests) { return state_->score(requests); }

bool ExecProgram::probe() {
  const ExecRequest request = {.prompt = "The film was", .response = " a pleasure from beginning to end."};
  const std::array<ExecRequest, 2> twice = {request, request};
  const std::vector<double> rewards = score(twice);
  return rewards[0] == rewards[1];
}

}  // namespace vbon
