// Folders of a test's own, and what a call says when it refuses.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "vbon/base/error.hpp"

namespace vbon::test {

// An empty folder for the running test; removed with its content.
class Scratch {
 public:
  Scratch() {
    const auto* const info = testing::UnitTest::GetInstance()->current_test_info();
    path_ = std::filesystem::path(testing::TempDir()) /
            ("vbon_" + std::string(info->test_suite_name()) + "_" + info->name() + "_" + std::to_string(::getpid()));
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~Scratch() { std::filesystem::remove_all(path_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// The text of the UserError that the call throws; "accepted" if it throws none.
template <class Call>
std::string refusal(Call&& call) {
  try {
    call();
  } catch (const UserError& e) {
    return e.what();
  }
  return "accepted";
}

}  // namespace vbon::test
