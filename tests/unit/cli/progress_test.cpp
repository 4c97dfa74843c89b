#include "vbon/cli/progress.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

#include "vbon/base/log.hpp"

namespace vbon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// A clock that the test moves, and everything that was said.
struct Stage {
  double now_s = 100.0;
  std::string terminal;
  std::vector<std::string> lines;

  ProgressOutput output(ProgressOutput::Form form, int width = 120) {
    return {.form = form,
            .now_s = [this] { return now_s; },
            .terminal = [this](const std::string& text) { terminal += text; },
            .line = [this](const std::string& text) { lines.push_back(text); },
            .width = width};
  }
  std::string last_bar() const { return terminal.substr(terminal.rfind("\x1b[K") + 3); }
};

TEST(ProgressLines, come_every_few_seconds_with_rate_eta_and_figures) {
  Stage stage;
  Progress progress({.what = "pool", .unit = "samples", .total = 1000}, stage.output(ProgressOutput::Form::lines));
  for (int i = 1; i <= 25; ++i) {
    stage.now_s += 1.0;
    progress.update(i * 10, "reward 0.31");
  }
  EXPECT_THAT(stage.lines, ElementsAre("pool: 100/1000 samples (10%), 10.0 samples/s, ETA 1m30s, reward 0.31",
                                       "pool: 200/1000 samples (20%), 10.0 samples/s, ETA 1m20s, reward 0.31"));
  stage.now_s = 200.0;
  progress.update(1000);
  stage.lines.clear();
  progress.finish();
  EXPECT_THAT(stage.lines, ElementsAre("pool: 1000 samples in 1m40s (10.0 samples/s)"));
  EXPECT_THAT(stage.terminal, IsEmpty());
}

TEST(ProgressLines, what_was_done_before_is_not_in_the_rate) {
  Stage stage;
  Progress progress({.what = "pool", .unit = "samples", .total = 1000, .done_before = 900},
                    stage.output(ProgressOutput::Form::lines));
  stage.now_s += 10.0;
  progress.update(920);
  EXPECT_THAT(stage.lines, ElementsAre("pool: 920/1000 samples (92%), 2.00 samples/s, ETA 40.0s"));
  stage.now_s += 40.0;
  progress.update(1000);
  progress.finish();
  EXPECT_EQ(stage.lines.back(), "pool: 100 samples in 50.0s (2.00 samples/s), 1000 with those done before");
}

TEST(ProgressLines, the_rate_forgets_what_is_long_ago) {
  Stage stage;
  Progress progress({.what = "x", .total = 100'000}, stage.output(ProgressOutput::Form::lines));
  std::int64_t done = 0;
  for (int i = 0; i < 1000; ++i) {  // 100 s at 100/s, in small steps
    stage.now_s += 0.1;
    progress.update(done += 10);
  }
  for (int i = 0; i < 700; ++i) {  // 70 s at 10/s
    stage.now_s += 0.1;
    progress.update(done += 1);
  }
  EXPECT_THAT(stage.lines.back(), HasSubstr(", 10.0 items/s,"));
}

TEST(ProgressLines, rare_updates_still_have_a_rate) {
  Stage stage;
  Progress progress({.what = "x", .unit = "steps", .total = 10}, stage.output(ProgressOutput::Form::lines));
  for (int i = 1; i <= 3; ++i) {
    stage.now_s += 300.0;
    progress.update(i);
  }
  EXPECT_EQ(stage.lines.back(), "x: 3/10 steps (30%), 0.2 steps/min, ETA 35m00s");
}

TEST(ProgressLines, say_nothing_false_before_anything_is_done) {
  Stage stage;
  Progress progress({.what = "x", .total = 10}, stage.output(ProgressOutput::Form::lines));
  stage.now_s += 20.0;
  progress.update(0);
  EXPECT_EQ(stage.lines.back(), "x: 0/10 items (0%), - items/s, ETA -");
}

TEST(ProgressLines, an_unknown_total_has_no_eta) {
  Stage stage;
  Progress progress({.what = "x", .line_every_s = 1.0}, stage.output(ProgressOutput::Form::lines));
  stage.now_s += 2.0;
  progress.update(10);
  EXPECT_EQ(stage.lines.back(), "x: 10 items, 5.00 items/s");
}

TEST(ProgressBar, draws_over_itself_in_one_line_no_wider_than_the_terminal) {
  Stage stage;
  Progress progress({.what = "train", .unit = "steps", .total = 200}, stage.output(ProgressOutput::Form::bar));
  stage.now_s += 10.0;
  progress.update(50, "reward 0.31\nKL 1.2");
  EXPECT_EQ(stage.last_bar(), "train [#####...............]  25% 50/200  5.00 steps/s  ETA 30.0s  reward 0.31 KL 1.2");
  const std::string before = stage.terminal;
  stage.now_s += 0.01;
  progress.update(51);
  EXPECT_EQ(stage.terminal, before);  // not drawn more often than an eye can see
  stage.now_s += 30.0;
  progress.update(200);
  progress.finish();
  EXPECT_THAT(stage.terminal, Not(HasSubstr("\n")));
  EXPECT_EQ(stage.last_bar(), "");  // cleared
  EXPECT_THAT(stage.lines, ElementsAre("train: 200 steps in 40.0s (5.00 steps/s)"));

  Progress narrow({.what = "train", .unit = "steps", .total = 200}, stage.output(ProgressOutput::Form::bar, 30));
  stage.now_s += 1.0;
  narrow.update(100);
  EXPECT_EQ(stage.last_bar(), "train [##########..........]…");
}

TEST(ProgressBar, lines_of_the_log_take_its_place_while_it_is_drawn) {
  Stage stage;
  testing::internal::CaptureStderr();
  Progress progress({.what = "x", .total = 5}, stage.output(ProgressOutput::Form::bar));
  log::info("before");
  stage.now_s += 1.0;
  progress.update(3);
  log::info("between");
  progress.finish();
  log::info("after");
  log::flush();
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_THAT(text, testing::ContainsRegex("between"));
  EXPECT_EQ(text.find("\r\x1b[K"), text.find("before\n") + 7);
  EXPECT_EQ(text.find("\r\x1b[K"), text.rfind("\r\x1b[K"));
}

TEST(Progress, an_exception_ends_the_line_and_says_how_far_it_came) {
  Stage stage;
  EXPECT_THROW(
      {
        Progress progress({.what = "pool", .unit = "samples", .total = 100}, stage.output(ProgressOutput::Form::bar));
        stage.now_s += 1.0;
        progress.update(41);
        throw std::runtime_error("peer lost");
      },
      std::runtime_error);
  EXPECT_EQ(stage.last_bar(), "");
  EXPECT_THAT(stage.lines, ElementsAre("pool: stopped at 41/100 samples"));
}

TEST(Progress, all_done_without_finish_is_finished) {
  Stage stage;
  {
    Progress progress({.what = "x", .total = 5}, stage.output(ProgressOutput::Form::lines));
    stage.now_s += 1.0;
    progress.update(5);
  }
  EXPECT_THAT(stage.lines, ElementsAre("x: 5 items in 1.0s (5.00 items/s)"));
}

TEST(Progress, silent_says_nothing) {
  Stage stage;
  {
    Progress progress({.what = "x", .total = 5}, stage.output(ProgressOutput::Form::silent));
    stage.now_s += 60.0;
    progress.update(3);
  }
  EXPECT_THAT(stage.lines, IsEmpty());
  EXPECT_THAT(stage.terminal, IsEmpty());
}

TEST(Progress, only_the_root_speaks_and_nobody_when_quiet) {
  const auto said = [](int rank, log::Level level) {
    log::init(rank, 2, level);
    Stage stage;
    {
      Progress progress({.what = "x", .total = 5}, stage.output(ProgressOutput::Form::automatic));
      stage.now_s += 60.0;
      progress.update(5);
    }
    log::init(0, 1);
    return !stage.lines.empty();
  };
  EXPECT_TRUE(said(0, log::Level::info));
  EXPECT_FALSE(said(1, log::Level::info));
  EXPECT_FALSE(said(0, log::Level::quiet));
}

TEST(Progress, never_throws) {
  Stage stage;
  ProgressOutput broken = stage.output(ProgressOutput::Form::lines);
  broken.line = [](const std::string&) { throw std::runtime_error("no space left"); };
  Progress progress({.what = "x", .total = 5}, broken);
  stage.now_s += 60.0;
  progress.update(3);
  progress.finish();
}

}  // namespace
}  // namespace vbon
