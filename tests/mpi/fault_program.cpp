// A program of several ranks in which one misbehaves, for faults_test: fault_program MODE. Its main is shaped like the
// real one: an exception on a rank ends the job with the exit code of its kind.
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>

#include "vbon/base/error.hpp"
#include "vbon/base/log.hpp"
#include "vbon/comm/agree.hpp"
#include "vbon/comm/collectives.hpp"
#include "vbon/comm/mailbox.hpp"

namespace {

using namespace vbon;
using namespace vbon::comm;

void sleep_long() { std::this_thread::sleep_for(std::chrono::seconds(40)); }

int work(MpiRuntime& mpi, const std::string& mode) {
  Communicator& world = mpi.world();
  const bool checks = mode == "mismatch" || mode == "sizes";
  const auto all = make_collectives(world.dup("all"), Backend::host, {.checks = checks});
  Mailbox mail(world.dup("mail"));
  std::vector<float> values(100'000, 1.0f);
  all->all_reduce(std::span<float>(values), Reduction::sum, "warm-up");
  mpi.waiter().limit(mode.starts_with("stall") ? 2.0 : 20.0);
  const bool bad = world.rank() == world.size() - 1;
  if (mode == "user error" && bad) throw UserError("the file of the last rank is bad");
  if (mode == "kill" && bad) std::raise(SIGKILL);
  if (mode == "exit" && bad) std::_Exit(0);
  if (mode.starts_with("stall") && bad) sleep_long();
  if (mode == "mismatch" && bad) all->broadcast(std::span<float>(values), 0, "weights");
  if (mode == "sizes" && bad) values.resize(90'000);
  if (mode == "stall barrier") all->barrier("the step");
  if (mode == "wait for mail") mpi.waiter().limit(2.0);
  if (mode == "stall chain" || mode == "wait for mail") mail.wait({1}, "what its neighbour never sends");
  if (mode == "stall mail") mail.wait({1}, "a scored chunk");
  if (mode == "stall split") world.split(0, "learners");
  if (mode == "together")
    together(*all, "reading prompts", [&] {
      if (bad) throw UserError("prompts.jsonl is empty");
    });
  if (mode == "all together") together(*all, "reading prompts", [] { throw UserError("prompts.jsonl is not there"); });
  if (mode == "far together")
    together(*all, "reading prompts", [&] {
      if (bad) throw UserError("prompts.jsonl is not there");
    });
  if (mode == "talk") {
    log::set_root(bad);
    log::set_warns(world.rank() == 1);
    log::info("news of rank {}", world.rank());
    log::warn("warning of rank {}", world.rank());
    return 0;
  }
  if (mode == "requeue") return static_cast<int>(ExitCode::requeue);
  if (mode == "fine") return 0;
  all->all_reduce(std::span<float>(values), Reduction::sum, "gradients");
  return 0;
}

int run(int argc, char** argv) {
  MpiRuntime mpi(argc, argv, {.timeout_s = 20.0});
  const std::string mode = argc > 1 ? argv[1] : "fine";
  log::init(mpi.world().rank(), mpi.world().size());
  if (mode == "uncaught" && mpi.world().rank() == 1) throw UserError("passes the runtime");
  try {
    return work(mpi, mode);
  } catch (const UserError& error) {
    if (mode == "together") {  // agreed: every rank is here, so the end can be quiet
      if (mpi.world().rank() == 0) log::error("{}", error.what());
      return 2;
    }
    if (is_told_elsewhere(error)) mpi.abort_behind(2);
    mpi.abort(2, error.what());
  } catch (const EnvironmentError& error) {
    mpi.abort(74, error.what());
  } catch (const std::exception& error) {
    mpi.abort(1, error.what());
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
