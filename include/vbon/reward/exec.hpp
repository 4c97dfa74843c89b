// Rewards from a program of the user's: it reads JSON lines {"prompt", "response"} on its standard input and answers
// each with a line {"reward": number} on its standard output, in order, written out at once (flushed). What it writes
// to its standard error is kept for error messages. It is a program with arguments and no shell command, runs until its
// input ends, and never outlives us. Start it before MPI, CUDA and threads.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vbon {

struct ExecOptions {
  std::vector<std::string> command;     // program and arguments
  double timeout_s = 120.0;             // for all answers to one call of score()
  double startup_s = 600.0;             // more, until the first answer: it may load a model
  std::size_t max_line_bytes = 65'536;  // of one answer
};

struct ExecRequest {
  std::string_view prompt;
  std::string_view response;
};

class ExecProgram {
 public:
  explicit ExecProgram(ExecOptions options);  // UserError if it cannot be started
  ~ExecProgram();                             // ends it, with all its descendants
  ExecProgram(ExecProgram&&) noexcept;
  ExecProgram& operator=(ExecProgram&&) noexcept;

  // A finite reward (also as a float) for each request, in order. Requests are written while answers are read, so a
  // call may be of any size. UserError: a wrong answer, or a program that ends or stalls before it ever worked.
  // EnvironmentError: one that worked and then was killed or stalled. After an error the program is gone.
  std::vector<double> score(std::span<const ExecRequest> requests);

  // Scores one pair twice, so that a program that does not work is found before work starts. False if the two rewards
  // differ: the program draws at random, and its scores hold only while they are kept.
  bool probe();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace vbon
