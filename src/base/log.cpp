#include "vbon/base/log.hpp"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

#include "vbon/base/error.hpp"

namespace vbon::log {
namespace {

constexpr const char* kTerminalPattern = "%H:%M:%S %^%L%$ %v";
constexpr const char* kFilePattern = "%Y-%m-%dT%H:%M:%S %L %v";

struct State {
  std::shared_ptr<spdlog::logger> logger =
      std::make_shared<spdlog::logger>("vbon", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  std::shared_ptr<spdlog::logger> own;  // of this rank alone; null: none
  Level level = Level::info;
  std::string prefix;  // "[rank 3] " where several ranks speak
  bool root = true;
  bool warns = false;
  bool all_ranks = false;
  State() {
    logger->set_pattern(kTerminalPattern);
    logger->set_level(spdlog::level::trace);
  }
};

State& state() {
  static State s;  // the one process-wide log; ranks are processes
  return s;
}

spdlog::level::level_enum translate(Level level) {
  switch (level) {
    case Level::debug: return spdlog::level::debug;
    case Level::info: return spdlog::level::info;
    case Level::warn: return spdlog::level::warn;
    default: return spdlog::level::err;
  }
}

std::shared_ptr<spdlog::sinks::sink> file_sink(const std::string& path) {
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path, /*truncate=*/false);
    sink->set_pattern(kFilePattern);
    return sink;
  } catch (const spdlog::spdlog_ex& e) {
    throw EnvironmentError("cannot open the log file '{}': {}", path, e.what());
  }
}

}  // namespace

void init(int rank, int num_ranks, Level level) {
  State& s = state();
  s.root = rank == 0;
  s.level = level;
  s.prefix = num_ranks > 1 ? fmt::format("[rank {}] ", rank) : "";
}

void set_root(bool root) { state().root = root; }
void set_warns(bool warns) { state().warns = warns; }

void set_file(const std::string& path) {
  State& s = state();
  if (s.root) s.logger->sinks().push_back(file_sink(path));
}

void set_rank_file(const std::string& path) {
  State& s = state();
  s.own = std::make_shared<spdlog::logger>("rank", file_sink(path));
  s.own->set_level(spdlog::level::trace);
  s.own->flush_on(spdlog::level::trace);  // few lines, read when a rank has died
}

void set_all_ranks(bool on) { state().all_ranks = on; }
void set_line_start(const std::string& text) { state().logger->sinks().front()->set_pattern(text + kTerminalPattern); }
bool is_root() { return state().root; }
Level level() { return state().level; }

void write(Level level, const std::string& text) {
  State& s = state();
  write_own(level, text);
  if (level < s.level) return;
  const bool loud = level >= Level::error || (level == Level::warn && (s.root || s.warns)) || s.all_ranks;
  if (!s.root && !loud) return;
  s.logger->log(translate(level), "{}{}", loud ? s.prefix : "", text);
  if (level >= Level::warn) s.logger->flush();
}

void write_own(Level level, const std::string& text) {
  if (const State& s = state(); s.own) s.own->log(translate(level), text);
}

void flush() { state().logger->flush(); }

}  // namespace vbon::log
