#include "vbon/store/folder_commit.hpp"

#include <gtest/gtest.h>

#include "temp_folder.hpp"
#include "vbon/base/error.hpp"

namespace vbon {
namespace {

using FolderCommit = TempFolder;

const std::vector<std::string> kNames = {"a.txt", "b.txt"};

TEST_F(FolderCommit, appears_with_all_its_files) {
  write_folder_atomically(folder_ / "made", kNames, [&](const fs::path& fresh) {
    write_file_atomically(fresh / "a.txt", "a");
    EXPECT_FALSE(fs::exists(folder_ / "made"));
    write_file_atomically(fresh / "b.txt", "b");
  });
  EXPECT_EQ(read_file(folder_ / "made/a.txt") + read_file(folder_ / "made/b.txt"), "ab");
  EXPECT_EQ(num_files(), 1u);
}

TEST_F(FolderCommit, takes_the_place_of_an_empty_folder_and_a_name_may_end_in_a_slash) {
  make_folders(folder_ / "made");
  write_folder_atomically(folder_ / "made/", kNames,
                          [](const fs::path& fresh) { write_file_atomically(fresh / "a.txt", "a"); });
  EXPECT_EQ(read_file(folder_ / "made/a.txt"), "a");
}

TEST_F(FolderCommit, an_attempt_that_failed_leaves_no_folder_and_is_cleared_by_the_next) {
  const auto fail = [](const fs::path& fresh) {
    write_file_atomically(fresh / "a.txt", "half");
    throw EnvironmentError("disk full");
  };
  EXPECT_THROW(write_folder_atomically(folder_ / "made", kNames, fail), EnvironmentError);
  EXPECT_FALSE(fs::exists(folder_ / "made"));
  write_folder_atomically(folder_ / "made", kNames,
                          [](const fs::path& fresh) { write_file_atomically(fresh / "b.txt", "b"); });
  EXPECT_FALSE(fs::exists(folder_ / "made/a.txt"));
  EXPECT_EQ(num_files(), 1u);
}

TEST_F(FolderCommit, what_is_not_ours_stays) {
  make_folders(folder_ / ".made.tmp");
  write_raw(folder_ / ".made.tmp/thesis.tex", "years of work");
  const auto nothing = [](const fs::path&) {};
  EXPECT_THROW(write_folder_atomically(folder_ / "made", kNames, nothing), UserError);
  EXPECT_EQ(read_file(folder_ / ".made.tmp/thesis.tex"), "years of work");
  make_folders(folder_ / "full");
  write_raw(folder_ / "full/mine", "mine");
  EXPECT_THROW(write_folder_atomically(folder_ / "full", kNames, nothing), EnvironmentError);
  EXPECT_EQ(read_file(folder_ / "full/mine"), "mine");
}

}  // namespace
}  // namespace vbon
