// Waiting ranks sleep: what a wait costs in CPU time, and what it says when nobody comes.
#include "vbon/comm/wait.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "support/world.hpp"
#include "vbon/base/error.hpp"
#include "vbon/comm/collectives.hpp"
#include "vbon/comm/mailbox.hpp"

namespace vbon::comm {
namespace {

using testing::HasSubstr;

double cpu_seconds() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](timeval t) { return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec); };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

TEST(Waiting, for_a_late_rank_costs_little_cpu_and_counts_as_idle) {
  const auto all = make_collectives(test::world().dup("late"), Backend::host);
  std::vector<float> values(1000, 1.0f);
  all->barrier();
  const double cpu = cpu_seconds();
  const double idle = all->idle_seconds();
  if (all->rank() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(500));
  all->all_reduce(std::span<float>(values), Reduction::sum, "late");
  EXPECT_LT(cpu_seconds() - cpu, 0.1);
  if (all->rank() != 0) {
    EXPECT_GT(all->idle_seconds() - idle, 0.2);
  }
  EXPECT_EQ(values[7], static_cast<float>(all->size()));
}

TEST(Waiting, for_mail_costs_little_cpu) {
  Mailbox box(test::world().dup("late mail"));
  const double cpu = cpu_seconds();
  EXPECT_FALSE(box.wait_for({1}, 0.4).has_value());
  EXPECT_LT(cpu_seconds() - cpu, 0.08);
}

// Never over; moves every 10 ms, `moves` times.
class Never final : public Awaited {
 public:
  explicit Never(std::uint64_t moves = 0) : last_move_(moves) {}
  bool done() override { return false; }
  std::uint64_t moves() const override {
    const auto passed = (std::chrono::steady_clock::now() - start_) / std::chrono::milliseconds(10);
    return std::min(static_cast<std::uint64_t>(passed), last_move_);
  }
  std::string description() const override { return "all_reduce #481 'gradients'"; }

 private:
  std::uint64_t last_move_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

TEST(Waiting, gives_up_with_who_where_and_what) {
  Waiter waiter("rank 2 on node7", {.timeout_s = 0.05});
  Never never;
  try {
    waiter.wait(never);
    FAIL() << "returned";
  } catch (const EnvironmentError& error) {
    EXPECT_THAT(error.what(), HasSubstr("rank 2 on node7 waited 0."));
    EXPECT_THAT(error.what(), HasSubstr("s in all_reduce #481 'gradients': a peer is stalled or lost"));
  }
}

TEST(Waiting, movement_restarts_the_clock) {
  Waiter waiter("rank 0", {.timeout_s = 0.05});
  Never until_100_ms(10);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THROW(waiter.wait(until_100_ms), EnvironmentError);
  EXPECT_GT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 0.14);
}

class Witness final : public Progress {
 public:
  explicit Witness(std::string text) : text_(std::move(text)) {}
  bool advance() override { return false; }
  std::string diagnosis() override { return text_; }

 private:
  std::string text_;
};

TEST(Waiting, says_what_is_known_about_the_others) {
  Waiter waiter("rank 2 on node7", {.timeout_s = 0.02});
  Witness knows_nothing(""), knows("no answer from rank 1 on node6");
  waiter.add(knows_nothing);
  waiter.add(knows);
  Never never;
  try {
    waiter.wait(never);
    FAIL() << "returned";
  } catch (const EnvironmentError& error) {
    EXPECT_THAT(error.what(), testing::EndsWith("a peer is stalled or lost; no answer from rank 1 on node6"));
  }
}

// A rank that is stopped while it looks: the first look lasts longer than any wait may.
class Stopped final : public Progress, public Awaited {
 public:
  bool advance() override {
    if (++looks_ == 1) std::this_thread::sleep_for(std::chrono::milliseconds(1200));
    return false;
  }
  bool done() override { return looks_ == 3; }
  std::string description() const override { return "a message"; }

 private:
  int looks_ = 0;
};

TEST(Waiting, who_was_stopped_blames_nobody) {
  Waiter waiter("rank 0", {.timeout_s = 0.5});
  Stopped stopped;
  waiter.add(stopped);
  EXPECT_NO_THROW(waiter.wait(stopped));
}

class Counter final : public Progress {
 public:
  bool advance() override { return ++polls_ == 3; }
  int polls_ = 0;
};

TEST(Waiting, advances_everything_that_is_registered) {
  Waiter waiter("rank 0", {.timeout_s = 0.01});
  Counter first, second;
  waiter.add(first);
  waiter.add(second);
  Never never;
  EXPECT_FALSE(waiter.wait_for(never, 0.01));
  waiter.remove(first);
  EXPECT_GE(first.polls_, 3);
  EXPECT_EQ(first.polls_, second.polls_);
  waiter.advance();
  EXPECT_EQ(second.polls_, first.polls_ + 1);
}

}  // namespace
}  // namespace vbon::comm
