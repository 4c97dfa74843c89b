#include "vbon/train/counters.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"

namespace vbon {
namespace {

TEST(Counters, come_back_and_damaged_ones_are_refused) {
  const fs::path path = fs::path(testing::TempDir()) / fmt::format("counters.{}.json", ::getpid());
  const SavedCounters written = {
      .run = {.step = 7, .episodes = 448, .tokens = 9000, .best_step = 5, .best_win = 0.1 + 0.2},
      .behind = 6,
      .optimizer_steps = 28,
      .kl_coef = 1.0 / 3};
  write_counters(path, written);
  const SavedCounters read = read_counters(path);
  EXPECT_EQ(read.run.step, 7);
  EXPECT_EQ(read.run.episodes, 448);
  EXPECT_EQ(read.run.tokens, 9000);
  EXPECT_EQ(read.run.best_step, 5);
  EXPECT_EQ(read.run.best_win, 0.1 + 0.2);
  EXPECT_EQ(read.behind, 6);
  EXPECT_EQ(read.optimizer_steps, 28);
  EXPECT_EQ(read.kl_coef, 1.0 / 3);
  const std::string good = read_file(path);
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{{"\"step\": 7", "\"step\": \"7\""},
                                                                                 {"\"step\": 7", "\"stop\": 7"},
                                                                                 {"\"step\": 7", "\"step\": -7"},
                                                                                 {"\"step\": 7", "\"step\": 7.5"},
                                                                                 {"\"behind\": 6", "\"behind\": -2"},
                                                                                 {"{", "["}}) {
    std::string bad = good;
    bad.replace(bad.find(from), from.size(), to);
    write_file_atomically(path, bad);
    EXPECT_THROW(read_counters(path), UserError) << to;
  }
  fs::remove(path);
}

}  // namespace
}  // namespace vbon
