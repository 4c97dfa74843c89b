#include "cli/sweep_process.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>

#include "vbon/base/error.hpp"
#include "vbon/base/stop.hpp"

extern char** environ;

namespace vbon::cli {

std::filesystem::path this_program() { return std::filesystem::read_symlink("/proc/self/exe"); }

std::filesystem::path jobs_folder(const std::filesystem::path& program) {
  for (std::filesystem::path at = program.parent_path(); at.has_relative_path(); at = at.parent_path())
    if (std::filesystem::exists(at / "jobs" / "sweep.sbatch")) return at / "jobs";
  return {};
}

int run_process(const std::vector<std::string>& words, const std::filesystem::path& log) {
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  pid_t child = 0;
  const int failure = ::posix_spawnp(&child, words.front().c_str(), &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failure != 0) throw EnvironmentError("cannot start '{}': {}", words.front(), std::strerror(failure));
  bool told = false;
  for (;;) {
    int status = 0;
    const pid_t done = ::waitpid(child, &status, WNOHANG);
    if (done == child) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (done < 0 && errno != EINTR) throw EnvironmentError("lost '{}': {}", words.front(), std::strerror(errno));
    if (stop::requested() && !told) {
      told = true;
      ::kill(child, stop::signal_number() != 0 ? stop::signal_number() : SIGTERM);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

}  // namespace vbon::cli
