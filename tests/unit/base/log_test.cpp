// Who speaks where there are many ranks, and what a rank keeps in a file of its own.
#include "vbon/base/log.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"

namespace vbon {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string said_by(int rank, bool root, bool warns, bool all_ranks = false) {
  log::init(rank, 1024);
  log::set_root(root);
  log::set_warns(warns);
  log::set_all_ranks(all_ranks);
  testing::internal::CaptureStderr();
  log::info("some news");
  log::warn("a warning");
  log::error("an error");
  log::flush();
  std::string said = testing::internal::GetCapturedStderr();
  log::init(0, 1);
  log::set_warns(false);
  log::set_all_ranks(false);
  return said;
}

TEST(Log, of_a_thousand_ranks_the_root_speaks_and_the_others_in_errors) {
  EXPECT_THAT(said_by(7, /*root=*/true, /*warns=*/false),
              AllOf(HasSubstr("some news"), HasSubstr("[rank 7] a warning"), HasSubstr("[rank 7] an error"),
                    Not(HasSubstr("[rank 7] some news"))));
  EXPECT_THAT(said_by(8, /*root=*/false, /*warns=*/false),
              AllOf(Not(HasSubstr("some news")), Not(HasSubstr("a warning")), HasSubstr("[rank 8] an error")));
}

TEST(Log, the_first_of_a_role_also_warns) {
  EXPECT_THAT(said_by(900, /*root=*/false, /*warns=*/true),
              AllOf(Not(HasSubstr("some news")), HasSubstr("[rank 900] a warning"), HasSubstr("[rank 900] an error")));
}

TEST(Log, all_ranks_speak_where_they_are_told_to) {
  EXPECT_THAT(said_by(9, /*root=*/false, /*warns=*/false, /*all_ranks=*/true),
              AllOf(HasSubstr("[rank 9] some news"), HasSubstr("[rank 9] a warning")));
}

TEST(Log, a_file_of_a_rank_has_what_it_did_not_say) {
  const auto path = std::filesystem::temp_directory_path() / fmt::format("vbon-log-{}.log", ::getpid());
  log::set_rank_file(path.string());
  EXPECT_THAT(said_by(5, /*root=*/false, /*warns=*/false), Not(HasSubstr("some news")));
  log::write_own(log::Level::error, "told elsewhere");
  const std::string kept = read_file(path);
  EXPECT_THAT(kept, AllOf(HasSubstr("I some news"), HasSubstr("W a warning"), HasSubstr("E an error"),
                          HasSubstr("E told elsewhere")));
  std::filesystem::remove(path);
  EXPECT_THROW(log::set_rank_file("/dev/null/no.log"), EnvironmentError);
}

}  // namespace
}  // namespace vbon
