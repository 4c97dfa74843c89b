#include "vbon/base/files.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <fstream>

#include "vbon/base/error.hpp"

namespace vbon {
namespace {

class Files : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / ("files_test." + std::to_string(::getpid()));
    make_folders(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path folder_;
};

TEST_F(Files, atomic_write_leaves_the_content_and_no_temporary) {
  write_file_atomically(folder_ / "a.json", "one");
  write_file_atomically(folder_ / "a.json", "two");
  EXPECT_EQ(read_file(folder_ / "a.json"), "two");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 1);
}

TEST_F(Files, output_that_cannot_be_written_is_an_environment_error) {
  EXPECT_THROW(write_file_atomically(folder_ / "missing" / "a", "x"), EnvironmentError);
  EXPECT_THROW(make_folders("/proc/vbon"), EnvironmentError);
}

TEST_F(Files, input_errors_are_the_users) {
  EXPECT_THROW(read_file(folder_ / "missing"), UserError);
  EXPECT_THROW(read_file(folder_), UserError);
  write_file_atomically(folder_ / "big", std::string(100, 'x'));
  EXPECT_THROW(read_file(folder_ / "big", 99), UserError);
}

TEST_F(Files, appended_lines_come_back_and_a_torn_one_does_not) {
  {
    LineAppender lines(folder_ / "log");
    lines.append("first");
    lines.append("second");
  }
  std::ofstream(folder_ / "log", std::ios::app) << "torn";
  EXPECT_EQ(read_complete_lines(folder_ / "log"), (std::vector<std::string>{"first", "second"}));
}

TEST_F(Files, a_file_that_is_shown_late_is_looked_for) {
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  int looks = 0;
  EXPECT_TRUE(look_until(folder_, 0, [&] { return ++looks == 1; }));
  EXPECT_FALSE(look_until(folder_, 0, [&] { return ++looks == 3; })) << "once, without waiting";
  EXPECT_TRUE(look_until(folder_, 60, [&] {
    if (++looks == 6) write_file_atomically(folder_ / "late", "x");
    return fs::exists(folder_ / "late");
  }));
  EXPECT_EQ(looks, 6);
  EXPECT_LT(seconds(), 30);
  EXPECT_FALSE(look_until(folder_ / "no folder", 0.1, [] { return false; }));
  EXPECT_GE(seconds(), 0.1);
}

TEST_F(Files, lines_lose_carriage_returns_and_the_byte_order_mark) {
  std::ofstream(folder_ / "text") << "\xEF\xBB\xBFone\r\n\ntwo";
  std::vector<std::string> seen;
  for_each_line(folder_ / "text", [&](std::int64_t number, std::string_view text) {
    seen.push_back(std::to_string(number) + ":" + std::string(text));
  });
  EXPECT_EQ(seen, (std::vector<std::string>{"1:one", "2:", "3:two"}));
}

}  // namespace
}  // namespace vbon
