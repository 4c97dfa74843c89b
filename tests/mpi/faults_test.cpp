// How a job of several ranks ends when one of them misbehaves: in seconds, with the right exit code and one message
// that names rank and operation. Each test starts fault_program under jobs/mpirun.sh.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <string>

#include "vbon/base/host.hpp"
#include "vbon/comm/mpi.hpp"

namespace {

using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;

struct Ending {
  int code = -1;
  double seconds = 0.0;
  std::string output;
};

Ending run(const std::string& command) {
  Ending ending;
  const auto start = std::chrono::steady_clock::now();
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  std::array<char, 4096> buffer{};
  while (pipe != nullptr && std::fgets(buffer.data(), buffer.size(), pipe) != nullptr) ending.output += buffer.data();
  const int status = pipe != nullptr ? ::pclose(pipe) : -1;
  ending.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  ending.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return ending;
}

Ending run_ranks(int ranks, const std::string& mode) {
  return run(VBON_MPIRUN " -n " + std::to_string(ranks) + " " VBON_FAULT_PROGRAM " '" + mode + "'");
}

// Far below the 20 s and 40 s that the ranks would wait or sleep if nobody ended them; generous to loaded machines.
constexpr double kSoon = 12.0;

std::string rank_here(int rank) { return "rank " + std::to_string(rank) + " on " + vbon::host_name(); }

TEST(Faults, a_run_without_any_ends_quietly) {
  const Ending ending = run_ranks(3, "fine");
  EXPECT_EQ(ending.code, 0);
  EXPECT_EQ(ending.output, "");
}

TEST(Faults, an_error_of_one_rank_ends_the_job_with_its_code) {
  const Ending ending = run_ranks(3, "user error");
  EXPECT_EQ(ending.code, 2) << ending.output;
  EXPECT_THAT(ending.output, HasSubstr("[rank 2] the file of the last rank is bad"));
  EXPECT_LT(ending.seconds, kSoon);
}

TEST(Faults, an_error_agreed_on_ends_all_ranks_by_themselves) {
  const Ending ending = run_ranks(3, "together");
  EXPECT_EQ(ending.code, 2) << ending.output;
  EXPECT_THAT(ending.output, HasSubstr("reading prompts failed on " + rank_here(2) + ": prompts.jsonl is empty"));
  EXPECT_THAT(ending.output, Not(HasSubstr("MPI_ABORT")));
}

int times(const std::string& text, const std::string& part) {
  int found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST(Faults, an_error_of_all_ranks_is_told_once) {
  const Ending ending = run_ranks(4, "all together");
  EXPECT_EQ(ending.code, 2) << ending.output;
  EXPECT_EQ(times(ending.output, "prompts.jsonl is not there"), 1) << ending.output;
  EXPECT_THAT(ending.output, HasSubstr("[rank 0] prompts.jsonl is not there"));
  EXPECT_LT(ending.seconds, kSoon);
}

TEST(Faults, an_error_of_one_rank_that_all_hear_of_is_told_once_with_its_place) {
  const Ending ending = run_ranks(4, "far together");
  EXPECT_EQ(ending.code, 2) << ending.output;
  EXPECT_EQ(times(ending.output, "prompts.jsonl is not there"), 1) << ending.output;
  EXPECT_THAT(ending.output, HasSubstr("[rank 0] reading prompts failed on " + rank_here(3)));
  EXPECT_LT(ending.seconds, kSoon);
}

TEST(Faults, of_four_ranks_the_root_speaks_and_one_more_warns) {
  const Ending ending = run_ranks(4, "talk");
  EXPECT_EQ(ending.code, 0) << ending.output;
  EXPECT_EQ(times(ending.output, "news of rank"), 1) << ending.output;
  EXPECT_THAT(ending.output, HasSubstr("news of rank 3"));
  EXPECT_EQ(times(ending.output, "warning of rank"), 2) << ending.output;
  EXPECT_THAT(ending.output, HasSubstr("[rank 1] warning of rank 1"));
  EXPECT_THAT(ending.output, HasSubstr("[rank 3] warning of rank 3"));
}

TEST(Faults, a_request_to_requeue_reaches_the_caller) {
  const Ending ending = run_ranks(3, "requeue");
  EXPECT_EQ(ending.code, 75) << ending.output;
}

TEST(Faults, a_killed_rank_ends_the_job) {
  const Ending ending = run_ranks(3, "kill");
  EXPECT_EQ(ending.code, 137) << ending.output;
  EXPECT_LT(ending.seconds, kSoon);
}

TEST(Faults, a_rank_that_leaves_without_a_word_ends_the_job) {
  const Ending ending = run_ranks(3, "exit");
  EXPECT_NE(ending.code, 0) << ending.output;
  EXPECT_LT(ending.seconds, kSoon);
}

TEST(Faults, an_exception_that_passes_the_runtime_does_not_wait_for_the_others) {
  const Ending ending = run_ranks(3, "uncaught");
  EXPECT_NE(ending.code, 0) << ending.output;
  EXPECT_THAT(ending.output, HasSubstr("passes the runtime"));
  EXPECT_LT(ending.seconds, kSoon);
}

TEST(Faults, a_stalled_rank_is_named_with_the_operation) {
  const Ending ending = run_ranks(3, "stall");
  EXPECT_EQ(ending.code, 74) << ending.output;
  EXPECT_THAT(ending.output, HasSubstr("s in all_reduce #2 'gradients' of group 'all' for"));
  EXPECT_THAT(ending.output, HasSubstr(rank_here(2)));
  EXPECT_THAT(ending.output, AnyOf(HasSubstr(rank_here(0) + " waited 2"), HasSubstr(rank_here(1) + " waited 2")));
  EXPECT_THAT(ending.output, HasSubstr("a peer is stalled or lost; no answer from " + rank_here(2) + ":"));
  EXPECT_LT(ending.seconds, kSoon);
}

TEST(Faults, a_rank_missing_at_a_barrier_is_named_alone) {
  const Ending ending = run_ranks(3, "stall barrier");
  EXPECT_EQ(ending.code, 74) << ending.output;
  EXPECT_THAT(ending.output, HasSubstr("s in barrier #2 'the step' of group 'all' for " + rank_here(2) + ":"));
  EXPECT_LT(ending.seconds, kSoon);
}

TEST(Faults, mail_that_never_comes_is_named) {
  const Ending ending = run_ranks(2, "stall mail");
  EXPECT_EQ(ending.code, 74) << ending.output;
  EXPECT_THAT(ending.output, HasSubstr("s in the wait for a message (a scored chunk) of group 'mail'"));
  EXPECT_THAT(ending.output, HasSubstr("no answer from " + rank_here(1) + ":"));
  EXPECT_LT(ending.seconds, kSoon);
}

TEST(Faults, the_one_that_all_wait_for_is_named_by_those_that_wait_for_each_other) {
  const Ending ending = run_ranks(3, "stall chain");
  EXPECT_EQ(ending.code, 74) << ending.output;
  EXPECT_THAT(ending.output, HasSubstr("no answer from " + rank_here(2) + ":"));
  EXPECT_THAT(ending.output, Not(HasSubstr("no answer from " + rank_here(0))));
  EXPECT_THAT(ending.output, Not(HasSubstr("no answer from " + rank_here(1))));
  EXPECT_LT(ending.seconds, kSoon);
}

TEST(Faults, ranks_that_all_wait_are_told_from_one_that_is_stalled) {
  const Ending ending = run_ranks(3, "wait for mail");
  EXPECT_EQ(ending.code, 74) << ending.output;
  EXPECT_THAT(ending.output, HasSubstr("all other ranks answer: they wait, too"));
  EXPECT_LT(ending.seconds, kSoon);
}

TEST(Faults, a_group_that_one_rank_does_not_join_is_named) {
  const Ending ending = run_ranks(3, "stall split");
  EXPECT_EQ(ending.code, 74) << ending.output;
  EXPECT_THAT(ending.output, HasSubstr("the making of group 'learners'"));
  EXPECT_LT(ending.seconds, kSoon);
}

TEST(Faults, comm_checks_name_both_calls_of_a_mismatch) {
  const Ending ending = run_ranks(3, "mismatch");
  EXPECT_EQ(ending.code, 1) << ending.output;
  EXPECT_THAT(ending.output, HasSubstr(rank_here(0) + " calls all_reduce #2 'gradients' (100000 float32, sum)"));
  EXPECT_THAT(ending.output, HasSubstr(rank_here(2) + " calls broadcast #2 'weights' (100000 float32, root 0)"));
}

TEST(Faults, comm_checks_name_sizes_that_differ_before_anything_is_overwritten) {
  const Ending ending = run_ranks(3, "sizes");
  EXPECT_EQ(ending.code, 1) << ending.output;
  EXPECT_THAT(ending.output, HasSubstr(rank_here(0) + " calls all_reduce #2 'gradients' (100000 float32, sum)"));
  EXPECT_THAT(ending.output, HasSubstr(rank_here(2) + " calls all_reduce #2 'gradients' (90000 float32, sum)"));
}

TEST(Faults, a_program_started_by_itself_is_one_rank) {
  EXPECT_EQ(run(VBON_FAULT_PROGRAM " fine").code, 0);
  const Ending ending = run(VBON_FAULT_PROGRAM " 'user error'");
  EXPECT_EQ(ending.code, 2);
  EXPECT_THAT(ending.output, HasSubstr("the file of the last rank is bad"));
  EXPECT_THAT(ending.output, Not(HasSubstr("MPI_ABORT")));
}

}  // namespace
