#include "cli/allocation.hpp"

#include <gtest/gtest.h>

#include <cstdlib>

#include "scratch.hpp"
#include "vbon/base/error.hpp"

namespace vbon::cli {
namespace {

class Allocation : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = std::getenv("PATH");
    clear();
  }
  void TearDown() override {
    set("PATH", path_);
    clear();
  }

  static void clear() {
    for (const char* name :
         {"VBON_END_TIME", "SLURM_JOB_END_TIME", "SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"})
      ::unsetenv(name);
  }
  static void set(const char* name, const std::string& value) { ::setenv(name, value.c_str(), 1); }
  // A squeue that knows the end of one job alone.
  void knows(const std::string& job, const std::string& end) {
    const auto file = scratch_.write(
        "squeue", "#!/bin/sh\n[ \"$SLURM_TIME_FORMAT $3\" = '%s " + job + "' ] && echo ' " + end + "'\n");
    std::filesystem::permissions(file, std::filesystem::perms::owner_all);
    set("PATH", file.parent_path().string() + ":" + path_);
  }

 private:
  test::Scratch scratch_;
  std::string path_;
};

TEST_F(Allocation, outside_of_one_there_is_no_end) { EXPECT_EQ(allocation_end(true), std::nullopt); }

TEST_F(Allocation, the_environment_says_it_to_every_rank) {
  set("SLURM_JOB_ID", "7");
  set("SLURM_JOB_END_TIME", "1700000000");
  EXPECT_EQ(allocation_end(false), 1700000000.0);
  set("VBON_END_TIME", "1600000000.5");
  EXPECT_EQ(allocation_end(false), 1600000000.5);
  for (const char* wrong : {"soon", "12:00", "-5", "0", "nan", "1e3x"}) {
    set("VBON_END_TIME", wrong);
    EXPECT_THROW(allocation_end(false), UserError) << wrong;
  }
}

TEST_F(Allocation, else_one_rank_asks) {
  set("SLURM_JOB_ID", "7");
  knows("7", "1700000000");
  EXPECT_EQ(allocation_end(false), std::nullopt);
  EXPECT_EQ(allocation_end(true), 1700000000.0);
  knows("7", "N/A");
  EXPECT_EQ(allocation_end(true), std::nullopt);
  knows("8", "1700000000");
  EXPECT_EQ(allocation_end(true), std::nullopt) << "squeue fails";
  set("SLURM_ARRAY_JOB_ID", "5");
  set("SLURM_ARRAY_TASK_ID", "2");
  knows("5_2", "1700000001");
  EXPECT_EQ(allocation_end(true), 1700000001.0);
}

}  // namespace
}  // namespace vbon::cli
