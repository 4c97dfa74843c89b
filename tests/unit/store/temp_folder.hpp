// A folder of its own for every test, removed afterwards; and the development Python, where there is one.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "vbon/base/files.hpp"

namespace vbon {

class TempFolder : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::path(testing::TempDir()) /
              (std::string(info->test_suite_name()) + "." + info->name() + "." + std::to_string(::getpid()));
    fs::remove_all(folder_);
    make_folders(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::size_t num_files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }

  fs::path folder_;
};

inline void write_raw(const fs::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

// The exit status of a Python script with these arguments.
inline int run_python(const std::string& arguments) {
  return std::system((std::string("'") + VBON_TEST_PYTHON + "' " + arguments).c_str());
}

inline bool python_has(const std::string& modules) {
  return fs::exists(VBON_TEST_PYTHON) && run_python("-c 'import " + modules + "' 2>/dev/null") == 0;
}

}  // namespace vbon
