// The exec reward with small programs of sh and Python: right answers in any amount, every wrong one, and no survivors.
#include "vbon/reward/exec.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "vbon/base/error.hpp"

namespace vbon {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

ExecOptions python(const std::string& code, double timeout_s = 10.0) {
  return {.command = {"python3", "-c", "import json, os, signal, subprocess, sys, time\n" + code},
          .timeout_s = timeout_s,
          .startup_s = 0.0};
}

ExecOptions shell(const std::string& code, double timeout_s = 10.0) {
  return {.command = {"sh", "-c", code}, .timeout_s = timeout_s, .startup_s = 0.0};
}

// Answers each request with the length of its response.
const char* const kLengths =
    "for line in sys.stdin:\n"
    "    print(json.dumps({'reward': len(json.loads(line)['response'])}), flush=True)\n";

std::vector<ExecRequest> requests(std::span<const std::string> responses) {
  std::vector<ExecRequest> list;
  for (const std::string& response : responses) list.push_back({.prompt = "p", .response = response});
  return list;
}

enum class Kind { user, environment, none };

struct Failure {
  Kind kind = Kind::none;
  std::string text;
};

template <class Call>
Failure failure_of(Call call) {
  try {
    call();
  } catch (const UserError& e) {
    return {Kind::user, e.what()};
  } catch (const EnvironmentError& e) {
    return {Kind::environment, e.what()};
  }
  return {};
}

// What comes of scoring two pairs.
Failure failure_of_program(const ExecOptions& options) {
  return failure_of([&] {
    ExecProgram program(options);
    const std::vector<std::string> responses = {"a", "bb"};
    program.score(requests(responses));
  });
}

bool is_alive(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  if (!std::getline(stat, text)) return false;
  return text[text.rfind(')') + 2] != 'Z';
}

bool ends_within(pid_t pid, double seconds) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (is_alive(pid) && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  return !is_alive(pid);
}

TEST(Exec, answers_in_order_over_several_calls) {
  ExecProgram program(python(kLengths));
  const std::vector<std::string> first = {"a", "", "four"};
  const std::vector<std::string> second = {std::string(1000, 'x')};
  EXPECT_THAT(program.score(requests(first)), ElementsAre(1.0, 0.0, 4.0));
  EXPECT_THAT(program.score({}), ElementsAre());
  EXPECT_THAT(program.score(requests(second)), ElementsAre(1000.0));
}

TEST(Exec, text_arrives_as_it_was_sent) {
  const std::string prompt = "Caf\xC3\xA9 \"quoted\"\nnext\tline \\ \xF0\x9F\x98\x80 \x01";
  const std::string torn = "ab\xC3";  // sampled bytes that are no whole character
  const std::vector<ExecRequest> list = {{.prompt = prompt, .response = torn}};
  const ExecOptions options = python(
      "for line in sys.stdin:\n"
      "    d = json.loads(line)\n"
      "    good = d['prompt'] == 'Caf\\u00e9 \"quoted\"\\nnext\\tline \\\\ \\U0001F600 \\x01' and d['response'] == "
      "'ab\\ufffd'\n"
      "    print(json.dumps({'reward': 1 if good and list(d) == ['prompt', 'response'] else 0}), flush=True)\n");
  EXPECT_THAT(ExecProgram(options).score(list), ElementsAre(1.0));
}

TEST(Exec, arguments_are_no_shell_text) {
  const ExecOptions options = {
      .command = {"python3", "-c",
                  "import sys\nfor _ in sys.stdin: print('{\"reward\": %d}' % (sys.argv[1] == '$HOME; *'), flush=True)",
                  "$HOME; *"}};
  const std::vector<std::string> one = {"a"};
  EXPECT_THAT(ExecProgram(options).score(requests(one)), ElementsAre(1.0));
}

TEST(Exec, more_than_the_pipes_hold_in_both_directions_does_not_lock_up) {
  // Long requests, long answers, and more on standard error than its pipe holds.
  ExecProgram program(
      python("for i, line in enumerate(sys.stdin):\n"
             "    sys.stderr.write('e' * 500 + '\\n')\n"
             "    print(json.dumps({'note': 'x' * 2000, 'reward': i}), flush=True)\n"));
  const std::vector<std::string> responses(3000, std::string(3000, 'r'));
  const std::vector<double> rewards = program.score(requests(responses));
  ASSERT_EQ(rewards.size(), responses.size());
  for (std::size_t i = 0; i < rewards.size(); ++i) ASSERT_EQ(rewards[i], static_cast<double>(i));
}

TEST(Exec, a_program_that_reads_all_before_it_answers_does_not_lock_up) {
  ExecProgram program(
      python("lines = [sys.stdin.readline() for _ in range(2000)]\n"
             "for line in lines: print('{\"reward\": 2}')\n"
             "sys.stdout.flush()\n"
             "sys.stdin.read()\n"));
  const std::vector<std::string> responses(2000, std::string(500, 'r'));
  EXPECT_EQ(program.score(requests(responses)), std::vector<double>(2000, 2.0));
}

TEST(Exec, numbers_of_every_form) {
  ExecProgram program(
      shell("read a; read b; read c; read d; echo '{\"reward\": -1.5e-3}'; echo ' {\"reward\":7, \"why\": [1]} '; "
            "printf '{\"reward\": 0.1}\\r\\n'; echo '{\"reward\": 3e38}'; cat >/dev/null"));
  const std::vector<std::string> responses(4, "x");
  EXPECT_THAT(program.score(requests(responses)), ElementsAre(-1.5e-3, 7.0, 0.1, 3e38));
}

TEST(Exec, a_probe_tells_whether_scores_are_repeatable) {
  EXPECT_TRUE(ExecProgram(python(kLengths)).probe());
  EXPECT_FALSE(
      ExecProgram(python("for i, _ in enumerate(sys.stdin): print('{\"reward\": %d}' % i, flush=True)")).probe());
}

TEST(ExecStart, what_cannot_be_run_is_refused_at_once) {
  const auto start = [](std::vector<std::string> command) {
    return failure_of([&] { ExecProgram program({.command = std::move(command)}); });
  };
  const Failure missing = start({"/nowhere/score", "x"});
  EXPECT_EQ(missing.kind, Kind::user);
  EXPECT_THAT(missing.text, AllOf(HasSubstr("'/nowhere/score'"), HasSubstr("No such file")));
  EXPECT_THAT(start({"vbon-no-such-program"}).text, HasSubstr("No such file"));
  EXPECT_THAT(start({"/"}).text, HasSubstr("Permission denied"));
  EXPECT_EQ(start({}).kind, Kind::user);
  EXPECT_EQ(start({""}).kind, Kind::user);
}

TEST(ExecAnswer, wrong_ones_are_the_users_error_and_shown) {
  const auto answer = [](const std::string& line) {
    return failure_of_program(shell("read a; read b; printf '%s\\n' '" + line + "'; cat >/dev/null"));
  };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"Loading the model", "'Loading the model', which is not JSON"},
      {"{\"reward\": }", "which is not JSON"},
      {"", "'', which is not JSON"},
      {"0.5", "which is no JSON object"},
      {"[1]", "which is no JSON object"},
      {"{\"score\": 1}", "which has no \"reward\""},
      {"{\"reward\": \"1\"}", "which has a \"reward\" that is no number"},
      {"{\"reward\": null}", "that is no number"},
      {"{\"reward\": true}", "that is no number"},
      {"{\"reward\": NaN}", "NaN and Infinity are no rewards"},
      {"{\"reward\": -Infinity}", "NaN and Infinity are no rewards"},
      {"{\"reward\": 1e999}", "not finite"},
      {"{\"reward\": 1e39}", "not finite"},
      {"{\"reward\": 1} {\"reward\": 2}", "which is not JSON"},
  };
  for (const auto& [line, message] : cases) {
    const Failure failure = answer(line);
    EXPECT_EQ(failure.kind, Kind::user) << line;
    EXPECT_THAT(failure.text, AllOf(HasSubstr("the reward program 'sh'"), HasSubstr(message))) << line;
  }
  EXPECT_THAT(answer("\x1b[31m\xFF").text, HasSubstr("'?[31m?'"));  // nothing that a terminal would act on
}

TEST(ExecAnswer, too_few) {
  const Failure failure = failure_of_program(shell("read a; echo '{\"reward\": 1}'; echo 'out of memory' >&2; exit 3"));
  EXPECT_EQ(failure.kind, Kind::user);
  EXPECT_THAT(failure.text,
              AllOf(HasSubstr("ended with exit status 3 after 1 of 2 answers"), HasSubstr("| out of memory")));
}

TEST(ExecAnswer, too_many) {
  const Failure at_once =
      failure_of_program(python("sys.stdin.readline()\n"
                                "print('{\"reward\": 1}\\n' * 3, end='', flush=True)\n"
                                "sys.stdin.read()\n"));
  EXPECT_EQ(at_once.kind, Kind::user);
  EXPECT_THAT(at_once.text, HasSubstr("answers more than it is asked"));

  const Failure unended =
      failure_of_program(shell("read a; read b; printf '{\"reward\": 1}\\n{\"reward\": 1}\\n{'; cat >/dev/null"));
  EXPECT_THAT(unended.text, HasSubstr("answers more than it is asked: '{'"));

  // The extra line comes after the call has its answers: the next one must not take it for its own.
  const Failure later = failure_of([] {
    ExecProgram program(shell("read a; echo '{\"reward\": 1}'; sleep 0.05; echo '{\"reward\": 2}'; cat >/dev/null"));
    const std::vector<std::string> one = {"a"};
    EXPECT_THAT(program.score(requests(one)), ElementsAre(1.0));
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    program.score(requests(one));
  });
  EXPECT_EQ(later.kind, Kind::user);
  EXPECT_THAT(later.text, HasSubstr("answers more than it is asked: '{\"reward\": 2}'"));
}

TEST(ExecAnswer, floods_are_cut) {
  // Only when asked: what comes before is an answer to nothing.
  const Failure line = failure_of_program(shell("read request; yes | tr -d '\\n'"));
  EXPECT_EQ(line.kind, Kind::user);
  EXPECT_THAT(line.text, HasSubstr("a line of more than 65536 bytes: 'yyyy"));
  EXPECT_LT(line.text.size(), 500u);

  const Failure answers = failure_of_program(shell("yes '{\"reward\": 1}'"));
  EXPECT_THAT(answers.text, HasSubstr("answers more than it is asked"));

  const Failure errors = failure_of_program(shell("yes 'warning' >&2", 0.5));
  EXPECT_EQ(errors.kind, Kind::user);
  EXPECT_THAT(errors.text, AllOf(HasSubstr("did not answer in time after 0 of 2 answers"), HasSubstr("| warning")));
  EXPECT_LT(errors.text.size(), 1000u);
}

TEST(ExecEnd, before_an_answer) {
  EXPECT_THAT(failure_of_program(shell("exit 0")).text, HasSubstr("ended with exit status 0 after 0 of 2 answers"));
  EXPECT_THAT(failure_of_program(shell("kill -SEGV $$")).text, HasSubstr("ended with signal 11 (Segmentation fault)"));
  EXPECT_THAT(failure_of_program(shell("exec >&-; sleep 100")).text,
              HasSubstr("closed its standard output after 0 of 2"));
  const Failure python_error = failure_of_program(python("import no_such_module"));
  EXPECT_EQ(python_error.kind, Kind::user);
  EXPECT_THAT(python_error.text,
              AllOf(HasSubstr("exit status 1"), HasSubstr("| ModuleNotFoundError: No module named")));
}

TEST(ExecEnd, with_its_input_closed_while_there_is_more_to_send) {
  const std::vector<std::string> responses(5000, std::string(1000, 'r'));
  const Failure failure = failure_of([&] {
    ExecProgram program(shell("exec <&-; sleep 100"));
    program.score(requests(responses));
  });
  EXPECT_THAT(failure.text, HasSubstr("closed its standard input after 0 of 5000 answers"));
}

TEST(ExecEnd, of_one_that_worked_and_was_killed_is_the_environments_fault) {
  const auto second_call = [](const std::string& then) {
    return failure_of([&] {
      ExecProgram program(shell("read a; echo '{\"reward\": 1}'; read b; " + then, 0.5));
      const std::vector<std::string> one = {"a"};
      EXPECT_THAT(program.score(requests(one)), ElementsAre(1.0));
      program.score(requests(one));
    });
  };
  const Failure killed = second_call("kill -KILL $$");
  EXPECT_EQ(killed.kind, Kind::environment);
  EXPECT_THAT(killed.text, HasSubstr("ended with signal 9 (Killed) after 0 of 1 answers"));
  const Failure stalled = second_call("sleep 100");
  EXPECT_EQ(stalled.kind, Kind::environment);
  EXPECT_THAT(stalled.text, HasSubstr("did not answer in time"));
  EXPECT_EQ(second_call("exit 1").kind, Kind::user);
}

TEST(ExecEnd, a_stall_is_cut_at_the_deadline_and_unflushed_output_is_guessed) {
  const auto start = std::chrono::steady_clock::now();
  const Failure failure = failure_of_program(
      python("out = open(1, 'w', buffering=1 << 16)\nfor line in sys.stdin: out.write('{\"reward\": 1}\\n')", 0.5));
  EXPECT_EQ(failure.kind, Kind::user);
  EXPECT_THAT(failure.text, HasSubstr("flush"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST(ExecEnd, a_failed_program_stays_failed) {
  ExecProgram program(shell("exit 1"));
  const std::vector<std::string> one = {"a"};
  EXPECT_EQ(failure_of([&] { program.score(requests(one)); }).kind, Kind::user);
  EXPECT_THAT(failure_of([&] { program.score(requests(one)); }).text, HasSubstr("has failed before"));
}

// A program that answers with its own process number and that of a child it leaves behind; in a session of the child's
// own if `leaves_group`.
ExecOptions with_descendant(bool leaves_group) {
  return python(std::string("child = subprocess.Popen(['sleep', '1000'], start_new_session=") +
                (leaves_group ? "True" : "False") + ")\n" +
                "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
                "sys.stdin.readline()\n"
                "sys.stdin.readline()\n"
                "print('{\"reward\": %d}' % os.getpid())\n"
                "print('{\"reward\": %d}' % child.pid, flush=True)\n"
                "time.sleep(1000)\n");
}

std::vector<pid_t> numbers_of(ExecProgram& program) {
  const std::vector<std::string> two = {"a", "b"};
  std::vector<pid_t> pids;
  for (const double value : program.score(requests(two))) pids.push_back(static_cast<pid_t>(value));
  return pids;
}

TEST(ExecSurvivors, there_are_none_after_a_normal_end) {
  for (const bool leaves_group : {false, true}) {
    std::vector<pid_t> pids;
    {
      ExecProgram program(with_descendant(leaves_group));
      pids = numbers_of(program);
      for (const pid_t pid : pids) EXPECT_TRUE(is_alive(pid));
    }
    for (const pid_t pid : pids) EXPECT_TRUE(ends_within(pid, 2.0)) << leaves_group;
  }
}

TEST(ExecSurvivors, there_are_none_after_an_error) {
  ExecOptions options = with_descendant(false);
  options.timeout_s = 1.0;
  ExecProgram program(options);
  const std::vector<pid_t> pids = numbers_of(program);
  const std::vector<std::string> one = {"a"};
  EXPECT_EQ(failure_of([&] { program.score(requests(one)); }).kind, Kind::environment);  // it sleeps
  for (const pid_t pid : pids) EXPECT_TRUE(ends_within(pid, 2.0));
}

// Our process is killed at once: no code of ours runs in it.
TEST(ExecSurvivors, there_are_none_after_kill_9_of_ourselves) {
  for (const bool leaves_group : {false, true}) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t owner = ::fork();
    if (owner == 0) {
      ExecProgram program(with_descendant(leaves_group));
      const std::vector<pid_t> pids = numbers_of(program);
      if (::write(ends[1], pids.data(), 2 * sizeof(pid_t)) < 0) ::_exit(1);
      ::pause();
      ::_exit(0);
    }
    std::vector<pid_t> pids(2);
    ASSERT_EQ(::read(ends[0], pids.data(), 2 * sizeof(pid_t)), static_cast<ssize_t>(2 * sizeof(pid_t)));
    ::close(ends[0]);
    ::close(ends[1]);
    for (const pid_t pid : pids) EXPECT_TRUE(is_alive(pid));
    ::kill(owner, SIGKILL);
    ::waitpid(owner, nullptr, 0);
    for (const pid_t pid : pids) EXPECT_TRUE(ends_within(pid, 3.0)) << leaves_group;
  }
}

TEST(ExecSurvivors, the_program_ends_when_its_guardian_is_killed) {
  ExecProgram program(
      python("for _ in sys.stdin: print('{\"reward\": %d}' % os.getpid(), flush=True)\n"
             "time.sleep(1000)"));
  const std::vector<std::string> one = {"a"};
  const auto pid = static_cast<pid_t>(program.score(requests(one))[0]);
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(stat, text);
  const pid_t guardian = std::stoi(text.substr(text.rfind(')') + 4));
  ASSERT_NE(guardian, ::getpid());
  ::kill(guardian, SIGKILL);
  EXPECT_TRUE(ends_within(pid, 2.0));
  const Failure failure = failure_of([&] { program.score(requests(one)); });
  EXPECT_EQ(failure.kind, Kind::environment);
}

TEST(ExecSignals, those_that_ask_the_whole_job_to_stop_do_not_end_the_program) {
  ExecProgram program(shell("while read line; do echo \"{\\\"reward\\\": $$}\"; done"));
  const std::vector<std::string> one = {"a"};
  const auto pid = static_cast<pid_t>(program.score(requests(one))[0]);
  for (const int number : {SIGUSR1, SIGTERM, SIGINT, SIGHUP}) ::kill(pid, number);
  EXPECT_THAT(program.score(requests(one)), ElementsAre(static_cast<double>(pid)));
}

TEST(ExecDescriptors, none_leak_into_the_program_or_stay_here) {
  const auto open_here = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator());
  };
  const auto before = open_here();
  const int ours = ::open("/dev/null", O_RDONLY);  // without O_CLOEXEC, as a launcher may hand one down
  {
    ExecProgram other(python(kLengths));  // its pipes must not be held open by the next program
    ExecProgram program(
        python("n = len(os.listdir('/proc/self/fd'))\nfor _ in sys.stdin: print('{\"reward\": %d}' % n, flush=True)"));
    const std::vector<std::string> one = {"a"};
    EXPECT_THAT(program.score(requests(one)), ElementsAre(4.0));  // the three, and the one that lists them
  }
  ::close(ours);
  EXPECT_EQ(open_here(), before);
}

}  // namespace
}  // namespace vbon
