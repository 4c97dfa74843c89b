// The main of GoogleTest programs on MPI ranks: the exit code is the largest of all ranks, rank 0 prints, the others
// write to files that are shown when something failed, and a watchdog ends the job with the name of a test that hangs.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "support/world.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/log.hpp"
#include "vbon/comm/agree.hpp"
#include "vbon/comm/collectives.hpp"

namespace vbon::test {
namespace {

constexpr std::chrono::seconds kLimit{60};  // a test
comm::MpiRuntime* runtime = nullptr;        // main's

class Watchdog : public testing::EmptyTestEventListener {
 public:
  explicit Watchdog(int rank) : rank_(rank), thread_([this] { watch(); }) {}
  ~Watchdog() override {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

 private:
  void OnTestStart(const testing::TestInfo& info) override {
    const std::lock_guard lock(mutex_);
    test_ = std::string(info.test_suite_name()) + "." + info.name();
    deadline_ = std::chrono::steady_clock::now() + kLimit;
  }
  void OnTestEnd(const testing::TestInfo&) override {
    const std::lock_guard lock(mutex_);
    deadline_.reset();
  }
  void watch() {
    std::unique_lock lock(mutex_);
    while (!over_) {
      changed_.wait_for(lock, std::chrono::seconds(1));
      if (!deadline_ || std::chrono::steady_clock::now() < *deadline_) continue;
      std::fprintf(stderr, "rank %d: %s hangs (more than %lld s)\n", rank_, test_.c_str(),
                   static_cast<long long>(kLimit.count()));
      std::fflush(stderr);
      std::_Exit(124);  // without MPI_Finalize: the launcher ends the other ranks
    }
  }

  const int rank_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::string test_;
  std::optional<std::chrono::steady_clock::time_point> deadline_;
  std::thread thread_;  // last: starts when the rest is there
};

// The launcher's process id keeps jobs that run at the same time apart.
std::string output_path(const std::string& program, int rank) {
  return fmt::format("{}/{}.{}.rank{}.log", std::filesystem::temp_directory_path().string(),
                     std::filesystem::path(program).filename().string(), ::getppid(), rank);
}

// Rank by rank, by rank 0, after all have finished writing.
void show_outputs(const std::string& program) {
  for (int r = 1; r < world().size(); ++r)
    std::cout << "---- output of rank " << r << " ----\n" << read_file(output_path(program, r)) << std::flush;
}

int run(int argc, char** argv) {
  const std::string program = argv[0];
  testing::InitGoogleTest(&argc, argv);
  const int rank = world().rank();
  log::init(rank, world().size());
  if (rank > 0 && std::freopen(output_path(program, rank).c_str(), "w", stdout) == nullptr) return 74;
  testing::UnitTest::GetInstance()->listeners().Append(new Watchdog(rank));
  int code = RUN_ALL_TESTS();
  std::fflush(stdout);
  const auto all = comm::make_collectives(world().dup("exit code"), comm::Backend::host);
  code = static_cast<int>(comm::max_of(*all, std::int64_t{code}, "exit code"));
  if (rank == 0 && code != 0) show_outputs(program);
  all->barrier("outputs shown");
  if (rank > 0) std::filesystem::remove(output_path(program, rank));
  return code;
}

}  // namespace

comm::Communicator& world() { return runtime->world(); }

}  // namespace vbon::test

int main(int argc, char** argv) {
  vbon::comm::MpiRuntime mpi(argc, argv, {.timeout_s = 50.0});
  vbon::test::runtime = &mpi;
  try {
    return vbon::test::run(argc, argv);
  } catch (const std::exception& error) {
    mpi.abort(1, error.what());
  }
}
