#include "vbon/base/host.hpp"
#include "vbon/store/run_folder.hpp"

#include <signal.h>
#include <sys/wait.h>

#include <functional>

#include "temp_folder.hpp"
#include "vbon/base/error.hpp"

namespace vbon {
namespace {

using RunFolders = TempFolder;

RunFolderOptions options_for(const std::string& config) {
  return {.config = config, .job = "77", .changed_keys = [config](const std::string& saved) {
            return saved == config ? std::vector<std::string>{} : std::vector<std::string>{"train.lr: 1 there, 2 here"};
          }};
}

std::string refusal(const std::function<void()>& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  ADD_FAILURE() << "no UserError";
  return "";
}

TEST_F(RunFolders, a_run_starts_goes_on_and_ends) {
  const fs::path path = folder_ / "runs/a";
  std::string run_id;
  {
    RunFolder run = RunFolder::open(path, options_for("a: 1\n"));
    run_id = run.run_id();
    EXPECT_EQ(run_id.size(), 16u);
    EXPECT_EQ(run.attempt(), 1);
    EXPECT_FALSE(run.resumed());
    EXPECT_EQ(read_file(path / "config.yaml"), "a: 1\n");
    for (const fs::path& part : {run.rollouts(), run.checkpoints(), run.eval()}) EXPECT_TRUE(fs::is_directory(part));
    write_raw(path / "notes.txt", "the user's");
    write_raw(run.log(), "x");
    EXPECT_EQ(run.unknown_files(), std::vector<std::string>{"notes.txt"});
  }
  EXPECT_FALSE(fs::exists(path / "lock"));
  {
    RunFolder run = RunFolder::open(path, options_for("a: 1\n"));
    EXPECT_EQ(run.run_id(), run_id);
    EXPECT_EQ(run.attempt(), 2);
    EXPECT_TRUE(run.resumed());
    run.finish(R"({"step": 3})");
  }
  EXPECT_TRUE(is_finished_run(path));
  EXPECT_NE(refusal([&] { RunFolder::open(path, options_for("a: 1\n")); }).find("finished"), std::string::npos);
  EXPECT_NE(refusal([&] { RunFolder::require_usable(path, options_for("a: 1\n")); }).find("finished"),
            std::string::npos);
}

TEST_F(RunFolders, foreign_and_changed_ones_are_refused_untouched) {
  write_raw(folder_ / "thesis.tex", "the user's");
  EXPECT_NE(refusal([&] { RunFolder::open(folder_, options_for("a")); }).find("no run of this program"),
            std::string::npos);
  EXPECT_EQ(num_files(), 1u);
  EXPECT_NE(refusal([&] { RunFolder::open(folder_ / "thesis.tex", options_for("a")); }).find("no folder"),
            std::string::npos);
  { RunFolder run = RunFolder::open(folder_ / "b", options_for("a")); }
  const std::string message = refusal([&] { RunFolder::open(folder_ / "b", options_for("b")); });
  EXPECT_NE(message.find("train.lr: 1 there, 2 here"), std::string::npos);
  EXPECT_EQ(read_file(folder_ / "b/config.yaml"), "a");
  EXPECT_EQ(read_complete_lines(folder_ / "b/attempts.jsonl").size(), 1u);
}

TEST_F(RunFolders, a_start_that_was_killed_early_leaves_a_usable_folder) {
  write_raw(folder_ / ".config.yaml.tmp", "torn");
  write_raw(folder_ / "lock", "");
  EXPECT_EQ(RunFolder::open(folder_, options_for("a")).attempt(), 1);
}

TEST_F(RunFolders, a_locked_one_names_its_holder_until_the_holder_is_killed) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const RunFolder run = RunFolder::open(folder_ / "r", options_for("a"));
    (void)!::write(ready[1], "x", 1);
    for (;;) ::pause();
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  const std::string message = refusal([&] { RunFolder::open(folder_ / "r", options_for("a")); });
  EXPECT_NE(message.find("process " + std::to_string(child)), std::string::npos) << message;
  EXPECT_NE(message.find(host_name()), std::string::npos) << message;
  EXPECT_NE(message.find("job 77"), std::string::npos) << message;
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_TRUE(fs::exists(folder_ / "r/lock"));
  EXPECT_EQ(RunFolder::open(folder_ / "r", options_for("a")).attempt(), 2);
  EXPECT_FALSE(fs::exists(folder_ / "r/lock"));
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST(LockHolders, are_gone_when_their_process_or_its_machine_has_ended) {
  const LockHolder me = this_process();
  EXPECT_FALSE(is_gone(me));
  EXPECT_FALSE(me.boot.empty());
  EXPECT_GT(me.start_ticks, 0);
  LockHolder other = me;
  other.start_ticks -= 1;
  EXPECT_TRUE(is_gone(other)) << "the pid is another process's by now";
  other = me;
  other.boot = "11111111-2222-3333-4444-555555555555";
  EXPECT_TRUE(is_gone(other)) << "the machine has been started since";
  other.host = "elsewhere";
  EXPECT_FALSE(is_gone(other)) << "of another host we know nothing";
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  ::waitpid(child, nullptr, 0);
  other = me;
  other.pid = child;
  EXPECT_TRUE(is_gone(other));
  other.pid_namespace = "pid:[1]";
  EXPECT_FALSE(is_gone(other)) << "its pids are not ours";
  LockHolder older{.host = me.host, .pid = me.pid};  // a lock of an older version
  EXPECT_FALSE(is_gone(older));
  older.pid = child;
  EXPECT_TRUE(is_gone(older));
}

TEST_F(RunFolders, one_of_many_that_start_together_gets_the_lock) {
  std::vector<pid_t> children;
  int gate[2];
  ASSERT_EQ(::pipe(gate), 0);
  write_raw(folder_ / "lock", R"({"host":"elsewhere","pid":1,"job":"","started":""})");  // stale: nobody holds it
  for (int i = 0; i < 8; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::close(gate[1]);
      char byte = 0;
      (void)!::read(gate[0], &byte, 1);  // the end of the pipe opens the gate for all
      try {
        const FileLock lock(folder_ / "lock", {});
        ::usleep(300'000);
        ::_exit(0);  // keeps the file, as a killed holder does
      } catch (const UserError&) {
        ::_exit(2);
      } catch (...) {
        ::_exit(3);
      }
    }
    children.push_back(child);
  }
  ::close(gate[0]);
  ::close(gate[1]);
  int winners = 0, refused = 0;
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    winners += WIFEXITED(status) && WEXITSTATUS(status) == 0;
    refused += WIFEXITED(status) && WEXITSTATUS(status) == 2;
  }
  EXPECT_EQ(winners, 1);
  EXPECT_EQ(refused, 7);
}

TEST_F(RunFolders, an_unwritable_place_is_the_environments_fault) {
  EXPECT_THROW(RunFolder::open("/proc/vbon-run", options_for("a")), EnvironmentError);
}

}  // namespace
}  // namespace vbon
