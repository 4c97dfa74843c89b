// What does not need several ranks: handles, the choice of a backend, and NCCL where there is a device.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/owned.hpp"
#include "vbon/base/error.hpp"
#include "vbon/comm/collectives.hpp"

namespace vbon::comm {
namespace {

int released = 0;
struct CountRelease {
  void operator()(int) const noexcept { ++released; }
};
using Handle = Owned<int, CountRelease>;
static_assert(std::is_nothrow_move_constructible_v<Handle> && std::is_nothrow_move_assignable_v<Handle>);
static_assert(!std::is_copy_constructible_v<Handle> && !std::is_copy_assignable_v<Handle>);
static_assert(std::is_nothrow_move_constructible_v<Communicator> && !std::is_copy_constructible_v<Communicator>);

TEST(Owned, releases_each_handle_once) {
  released = 0;
  {
    Handle first(1);
    Handle second(std::move(first));
    Handle third(2);
    third = std::move(second);
    EXPECT_EQ(released, 1);
    EXPECT_EQ(third.get(), 1);
    third = Handle(3);
    EXPECT_EQ(released, 2);
  }
  EXPECT_EQ(released, 3);
}

TEST(MakeCollectives, a_local_group_needs_no_mpi) {
  const auto all = make_collectives(Communicator::local(), Backend::host);
  EXPECT_NE(dynamic_cast<LocalCollectives*>(all.get()), nullptr);
  EXPECT_FALSE(all->on_device());
  EXPECT_EQ(&all->host(), all.get());
  EXPECT_EQ(all->idle_seconds(), 0.0);
}

TEST(MakeCollectives, nccl_without_a_device_says_what_to_do) {
  try {
    const auto all = make_collectives(Communicator::local(), Backend::nccl);
    EXPECT_TRUE(all->on_device());  // a machine with a device
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("cluster.device: cpu"));
  }
}

}  // namespace
}  // namespace vbon::comm
