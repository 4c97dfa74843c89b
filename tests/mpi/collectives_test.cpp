// Every operation on every type against a serial computation from the same formulas, exactly: host collectives reduce
// in rank order. Runs on one rank without MPI and on 1, 2, 3 and 4 MPI ranks.
#include "vbon/comm/collectives.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <thread>

#include "support/collective_oracle.hpp"
#include "support/world.hpp"
#include "vbon/base/host.hpp"

namespace vbon::comm {
namespace {

using namespace oracle;

template <class T>
class CollectivesOf : public testing::Test {
 protected:
  std::unique_ptr<Collectives> all =
      make_collectives(test::world().dup("all"), Backend::host, {.piece_bytes = 10'000, .checks = true});
  const int rank = all->rank();
  const int size = all->size();
};
TYPED_TEST_SUITE(CollectivesOf, ElementTypes);

TYPED_TEST(CollectivesOf, all_reduce_is_the_serial_reduction_in_rank_order) {
  using T = TypeParam;
  for (const std::int64_t count : kSizes)
    for (const Reduction op : kReductions) {
      const std::vector<T> expected = reduced<T>(this->size, count, op);
      std::vector<T> values = values_of<T>(this->rank, count);
      std::vector<T> out(values.size());
      this->all->all_reduce(std::span<const T>(values), std::span<T>(out), op, "out of place");
      EXPECT_EQ(out, expected) << count << " " << name_of(op);
      EXPECT_EQ(values, values_of<T>(this->rank, count)) << "the input stays as it was";
      this->all->all_reduce(std::span<T>(values), op, "in place");
      EXPECT_EQ(values, expected) << count << " " << name_of(op);
    }
}

TYPED_TEST(CollectivesOf, reduce_scatter_leaves_each_rank_its_part) {
  using T = TypeParam;
  for (const std::int64_t part : kSizes)
    for (const Reduction op : kReductions) {
      const std::vector<T> expected = reduced<T>(this->size, part, op, this->rank * part);
      std::vector<T> values = values_of<T>(this->rank, part * this->size);
      std::vector<T> out(static_cast<std::size_t>(part));
      this->all->reduce_scatter(std::span<const T>(values), std::span<T>(out), op);
      EXPECT_EQ(out, expected) << part;
      const std::span<T> mine = this->all->reduce_scatter(std::span<T>(values), op);
      EXPECT_EQ(std::vector<T>(mine.begin(), mine.end()), expected) << part;
    }
}

TYPED_TEST(CollectivesOf, broadcast_from_every_root) {
  using T = TypeParam;
  for (const std::int64_t count : kSizes)
    for (int root = 0; root < this->size; ++root) {
      std::vector<T> values = values_of<T>(this->rank, count);
      this->all->broadcast(std::span<T>(values), root, "values");
      EXPECT_EQ(values, values_of<T>(root, count)) << count << " from " << root;
    }
}

TYPED_TEST(CollectivesOf, all_gather_puts_parts_in_rank_order) {
  using T = TypeParam;
  for (const std::int64_t part : kSizes) {
    std::vector<T> expected;
    for (int r = 0; r < this->size; ++r)
      for (const T& value : values_of<T>(r, part)) expected.push_back(value);
    const std::vector<T> mine = values_of<T>(this->rank, part);
    std::vector<T> out(expected.size());
    this->all->all_gather(std::span<const T>(mine), std::span<T>(out));
    EXPECT_EQ(out, expected) << part;
    std::vector<T> in_place(expected.size());
    std::copy(mine.begin(), mine.end(), in_place.begin() + this->rank * part);
    this->all->all_gather(std::span<T>(in_place));
    EXPECT_EQ(in_place, expected) << part;
  }
}

TYPED_TEST(CollectivesOf, all_gather_v_returns_ragged_and_empty_parts_with_their_partition) {
  using T = TypeParam;
  for (const int empty : {-1, 0, this->size - 1}) {  // the rank that gives nothing; -1: each gives something
    const auto count_of = [&](int r) { return r == empty ? std::int64_t{0} : std::int64_t{997 * r + 3}; };
    const std::vector<T> mine = values_of<T>(this->rank, count_of(this->rank));
    const Gathered<T> gathered = this->all->all_gather_v(std::span<const T>(mine), "ragged");
    ASSERT_EQ(gathered.offsets.size(), static_cast<std::size_t>(this->size) + 1);
    for (int r = 0; r < this->size; ++r) {
      const std::span<const T> part = gathered.of(r);
      EXPECT_EQ(std::vector<T>(part.begin(), part.end()), values_of<T>(r, count_of(r))) << r;
    }
    EXPECT_EQ(static_cast<std::int64_t>(gathered.values.size()), gathered.offsets.back());
  }
}

class AllCollectives : public testing::Test {
 protected:
  Communicator group = test::world().dup("all");
  const int rank = group.rank();
  const int size = group.size();
};

TEST_F(AllCollectives, sums_do_not_depend_on_the_size_of_pieces) {
  std::vector<std::vector<float>> results;
  for (const std::int64_t piece : {std::int64_t{1}, std::int64_t{4096}, std::int64_t{50'000}, std::int64_t{1} << 40}) {
    auto all = make_collectives(group.dup("pieces"), Backend::host, {.piece_bytes = piece});
    std::vector<float> values = values_of<float>(rank, piece == 1 ? 50 : 30'000);
    all->all_reduce(std::span<float>(values), Reduction::sum);
    values.resize(50);
    results.push_back(values);
  }
  for (const auto& result : results) EXPECT_EQ(result, results[0]);
}

TEST_F(AllCollectives, many_pending_sums_finish_in_any_order) {
  auto all = make_collectives(group.dup("pending"), Backend::host, {.piece_bytes = 4096});
  constexpr int kBuckets = 12;
  std::vector<std::vector<float>> buckets;
  std::vector<Pending> pending;
  for (int b = 0; b < kBuckets; ++b) buckets.push_back(values_of<float>(rank, 3000, 5000 * b));
  for (auto& bucket : buckets)
    pending.push_back(all->all_reduce_start(std::span<float>(bucket), Reduction::sum, "bucket"));
  double scalar = rank;
  all->all_reduce(std::span<double>(&scalar, 1), Reduction::sum, "a blocking call between");
  EXPECT_EQ(scalar, size * (size - 1) / 2.0);
  for (int i = 0; i < kBuckets; ++i) {  // every rank waits in an order of its own
    const int b = (i * 5 + rank * 3) % kBuckets;
    if (i % 2 == 0) pending[static_cast<std::size_t>(b)].wait();
    else
      while (!pending[static_cast<std::size_t>(b)].test()) {
      }
    EXPECT_EQ(buckets[static_cast<std::size_t>(b)], reduced<float>(size, 3000, Reduction::sum, 5000 * b));
  }
}

TEST_F(AllCollectives, not_a_number_survives_every_reduction) {
  auto all = make_collectives(group.dup("nan"), Backend::host);
  for (const Reduction op : kReductions)
    for (int source = 0; source < size; ++source) {
      std::vector<float> values = {rank == source ? std::numeric_limits<float>::quiet_NaN() : float(rank), 1.0f};
      all->all_reduce(std::span<float>(values), op);
      EXPECT_TRUE(std::isnan(values[0]));
      EXPECT_FALSE(std::isnan(values[1]));
    }
}

TEST_F(AllCollectives, barrier_holds_until_the_last_rank_came) {
  // The ranks share a machine, so a steady clock is the same for all.
  const auto now = [] { return std::chrono::steady_clock::now().time_since_epoch().count(); };
  auto all = make_collectives(group.dup("barrier"), Backend::host);
  for (int late = 0; late < size; ++late) {
    if (rank == late) std::this_thread::sleep_for(std::chrono::milliseconds(30));
    std::int64_t last_came = now();
    all->barrier("one is late");
    const std::int64_t left = now();
    all->all_reduce(std::span<std::int64_t>(&last_came, 1), Reduction::max, "times");
    EXPECT_GE(left, last_came);
  }
}

TEST_F(AllCollectives, groups_by_split_do_not_hear_each_other) {
  const std::optional<Communicator> odd_even = group.split(rank % 2, rank % 2 == 0 ? "even" : "odd");
  ASSERT_TRUE(odd_even.has_value());
  EXPECT_EQ(odd_even->rank(), rank / 2);
  EXPECT_EQ(odd_even->size(), (size + 1 - rank % 2) / 2);
  EXPECT_EQ(odd_even->world_rank_of(odd_even->rank()), rank);
  const int members = odd_even->size();
  auto all = make_collectives(odd_even->dup("half"), Backend::host);
  std::int64_t sum = rank;
  all->all_reduce(std::span<std::int64_t>(&sum, 1), Reduction::sum);
  EXPECT_EQ(sum, members * (members - 1) + members * (rank % 2));
  const std::optional<Communicator> first_only = group.split(rank == 0 ? std::optional(0) : std::nullopt, "first");
  EXPECT_EQ(first_only.has_value(), rank == 0);
}

TEST_F(AllCollectives, ranks_of_one_machine_share_a_node) {
  EXPECT_EQ(group.num_nodes(), 1);
  EXPECT_EQ(group.node_rank(), rank);
  EXPECT_EQ(group.node_size(), size);
  EXPECT_EQ(group.host(), host_name());
}

TEST_F(AllCollectives, misuse_is_our_bug) {
  auto all = make_collectives(group.dup("misuse"), Backend::host);
  std::vector<float> three(3), four(4);
  EXPECT_THROW(all->all_reduce(std::span<const float>(three), std::span<float>(four), Reduction::sum), InternalError);
  EXPECT_THROW(all->broadcast(std::span<float>(three), size), InternalError);
  EXPECT_THROW(all->all_gather(std::span<const float>(three), std::span<float>(four)), InternalError);
}

}  // namespace
}  // namespace vbon::comm
