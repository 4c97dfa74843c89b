// For tests of whole stages on one rank or several: a folder that all ranks see, removed at the end.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "support/world.hpp"
#include "vbon/base/files.hpp"
#include "vbon/comm/agree.hpp"
#include "vbon/comm/collectives.hpp"

namespace vbon::test {

class SharedFolder : public testing::Test {
 protected:
  void SetUp() override {
    const auto* const info = testing::UnitTest::GetInstance()->current_test_info();
    const std::string mine = testing::TempDir() + "vbon_" + info->name() + "_" + std::to_string(::getpid());
    folder_ = comm::from_root(*group_, mine, 0, "folder");
    if (is_root()) make_folders(folder_);
    group_->barrier("folder");
  }
  void TearDown() override {
    group_->barrier("end");
    if (is_root()) fs::remove_all(folder_);
  }
  bool is_root() const { return group_->rank() == 0; }
  // Written once, seen by all when the call returns.
  fs::path written(const std::string& name, const std::string& content) const {
    if (is_root()) {
      make_folders((folder_ / name).parent_path());
      write_file_atomically(folder_ / name, content);
    }
    group_->barrier("file");
    return folder_ / name;
  }

  std::unique_ptr<comm::Collectives> group_ = comm::make_collectives(world().dup("test"), comm::Backend::host);
  fs::path folder_;
};

}  // namespace vbon::test
