// Work that may hang or die, kept at arm's length: in a child process, or in a thread that is given up on.
#pragma once

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace vbon::cli {

struct ChildResult {
  bool ended = false;  // by itself in time, with status 0
  bool timed_out = false;
  int status = 0;      // exit status; -1: a signal
  std::string output;  // what `work` returned, or the program wrote to standard output
  std::string errors;  // the end of standard error, or what `work` threw
};
// Runs `work` in a forked copy of this process, which never returns here. To be called before this process has threads.
ChildResult run_in_child(double timeout_s, const std::function<std::string()>& work);
// Runs a program (no shell), its standard input empty.
ChildResult run_program(double timeout_s, const std::vector<std::string>& command);
// The program's place in PATH; "": there is none.
std::string find_program(const std::string& name);

// The result of `work` if it is there in time; else nullopt, and the thread is left to itself: what it uses must be its
// own. A process with such a thread ends by std::_Exit.
template <class Work>
auto within(double timeout_s, Work work) -> std::optional<std::invoke_result_t<Work>> {
  std::packaged_task<std::invoke_result_t<Work>()> task(std::move(work));
  auto result = task.get_future();
  std::thread(std::move(task)).detach();
  if (result.wait_for(std::chrono::duration<double>(timeout_s)) != std::future_status::ready) return std::nullopt;
  return result.get();
}

}  // namespace vbon::cli
