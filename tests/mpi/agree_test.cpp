#include "vbon/comm/agree.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <utility>

#include "support/world.hpp"
#include "vbon/comm/publish.hpp"

namespace vbon::comm {
namespace {

using testing::HasSubstr;

class Agree : public testing::Test {
 protected:
  std::unique_ptr<Collectives> all = make_collectives(test::world().dup("agree"), Backend::host);
  const int rank = all->rank();
  const int size = all->size();
};

template <class F>
std::string message_of(F&& work) {
  try {
    work();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "no error";
}

TEST_F(Agree, flags_and_numbers) {
  for (int r = 0; r < size; ++r) {
    EXPECT_TRUE(any_rank(*all, rank == r, "flag"));
    EXPECT_EQ(all_ranks(*all, rank == r, "flag"), size == 1);
  }
  EXPECT_FALSE(any_rank(*all, false, "flag"));
  EXPECT_TRUE(all_ranks(*all, true, "flag"));
  EXPECT_EQ(sum_of(*all, std::int64_t{rank + 1}, "ranks"), size * (size + 1) / 2);
  EXPECT_EQ(max_of(*all, std::int64_t{-rank}, "ranks"), 0);
  EXPECT_EQ(sum_of(*all, 0.5 * rank, "halves"), 0.25 * size * (size - 1));
  EXPECT_EQ(max_of(*all, 0.5 * rank, "halves"), 0.5 * (size - 1));
  EXPECT_EQ(from_root(*all, "text of rank " + std::to_string(rank), size - 1, "text"),
            "text of rank " + std::to_string(size - 1));
}

TEST_F(Agree, a_differing_value_is_found_on_every_rank) {
  EXPECT_NO_THROW(check_same(*all, "config 17", "the configuration"));
  if (size == 1) return;
  const std::string message =
      message_of([&] { check_same(*all, rank == size - 1 ? "config 18" : "config 17", "the configuration"); });
  EXPECT_THAT(message, HasSubstr("ranks disagree about the configuration: rank 0 on"));
  EXPECT_THAT(message, HasSubstr("rank " + std::to_string(size - 1) + " on"));
  EXPECT_THAT(message, HasSubstr("'config 18'"));
}

TEST_F(Agree, work_that_fails_on_one_rank_fails_on_all_with_the_same_kind) {
  EXPECT_NO_THROW(together(*all, "reading", [] {}));
  for (int bad = 0; bad < size; ++bad) {
    const auto user = [&] {
      if (rank == bad) throw UserError("no such file");
    };
    const auto environment = [&] {
      if (rank == bad) throw EnvironmentError("disk full");
    };
    EXPECT_THROW(together(*all, "reading prompts", user), UserError);
    EXPECT_THROW(together(*all, "writing", environment), EnvironmentError);
    EXPECT_THROW(together(*all, "computing", [&] { check(rank != bad, "a bug"); }), std::logic_error);
    const std::string message = message_of([&] { together(*all, "reading prompts", user); });
    EXPECT_EQ(message, rank == bad ? "no such file"
                                   : "reading prompts failed on " + all->group().place_of(bad) + ": no such file");
  }
}

TEST_F(Agree, published_buffers_arrive_with_their_version) {
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{31}, std::size_t{5} << 20})
    for (int root = 0; root < size; ++root) {
      std::vector<std::byte> buffer(bytes, static_cast<std::byte>(rank));
      if (rank == root)
        for (std::size_t i = 0; i < bytes; ++i) buffer[i] = static_cast<std::byte>(i * 7 + 1);
      EXPECT_EQ(publish(*all, buffer, rank == root ? 42 : -1, root, "weights"), 42);
      for (std::size_t i = 0; i < bytes; ++i) ASSERT_EQ(buffer[i], static_cast<std::byte>(i * 7 + 1)) << i;
    }
}

// Broadcasts that a fault changes where they are received: what `publish` guards against and MPI does not do itself.
class Faulty final : public Collectives {
 public:
  using Fault = std::function<void(const View& received)>;
  Faulty(Collectives& sound, Fault fault, bool on_device = false)
      : sound_(sound), fault_(std::move(fault)), on_device_(on_device) {}
  const Communicator& group() const override { return sound_.group(); }
  bool on_device() const override { return on_device_; }  // a pretended one: its memory is the host's
  Collectives& host() override { return *this; }

 private:
  Pending start(const Call& call) override {
    check(call.operation == Operation::broadcast, "what is published is broadcast");
    sound_.broadcast(std::span<std::byte>(call.out.data, static_cast<std::size_t>(call.out.bytes())), call.root,
                     call.what);
    if (rank() != call.root) fault_(call.out);
    return {};
  }
  Collectives& sound_;
  Fault fault_;
  bool on_device_;
};

TEST_F(Agree, a_published_buffer_that_arrives_damaged_or_torn_is_refused) {
  const auto flip = [](const View& received, std::int64_t at) {
    received.data[at < 0 ? received.bytes() + at : at] ^= std::byte{1};
  };
  // The header is of numbers, the content of bytes.
  const std::vector<Faulty::Fault> faults = {
      [&](const View& received) {
        if (received.type == DataType::uint8) flip(received, 0);
      },
      [&](const View& received) {
        if (received.type == DataType::uint8) flip(received, -1);
      },
      [](const View& received) {  // the second half is still what was there before
        if (received.type == DataType::uint8)
          std::fill_n(received.data + received.count / 2, received.count - received.count / 2, std::byte{0});
      },
      [&](const View& received) {  // the checksum itself
        if (received.type == DataType::int64) flip(received, -1);
      }};
  const auto damaged = [&](const Faulty::Fault& fault, bool on_device, std::size_t bytes) {
    for (int root = 0; root < size; ++root) {
      Faulty faulty(*all, fault, on_device);
      std::vector<std::byte> buffer(bytes, static_cast<std::byte>(rank == root ? 7 : 0));
      const auto once = [&] { publish(faulty, buffer, 42, root, "weights"); };
      EXPECT_EQ(message_of(once), rank == root ? "no error"
                                               : "weights version 42 from " + all->group().place_of(root) +
                                                     " arrived damaged at " + all->group().place_of(rank));
      if (rank == root) once();
      else EXPECT_THROW(once(), EnvironmentError);
    }
  };
  for (const Faulty::Fault& fault : faults) {
    damaged(fault, false, 1001);
    damaged(fault, true, (std::size_t{9} << 20) + 1);  // copied to the host in pieces
  }
}

TEST_F(Agree, buffers_of_devices_are_published_too) {
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, (std::size_t{9} << 20) + 1}) {
    Faulty sound(*all, [](const View&) {}, true);
    std::vector<std::byte> buffer(bytes, static_cast<std::byte>(rank));
    EXPECT_EQ(publish(sound, buffer, 42, size - 1, "weights"), 42);
    EXPECT_EQ(buffer, std::vector<std::byte>(bytes, static_cast<std::byte>(size - 1)));
  }
}

TEST_F(Agree, a_receiver_gets_the_version_that_came_whatever_it_expects) {
  for (int root = 0; root < size; ++root) {
    Faulty faulty(*all, [](const View& received) {
      if (received.type == DataType::int64) received.data[0] ^= std::byte{1};
    });
    std::vector<std::byte> buffer(8);
    EXPECT_EQ(publish(faulty, buffer, 42, root, "weights"), rank == root ? 42 : 43);
  }
}

TEST_F(Agree, publishing_into_a_buffer_of_another_size_is_our_bug) {
  if (size == 1) GTEST_SKIP() << "needs two ranks";
  // The receivers of a wrong size give up before the data, so the root sends to nobody: only its header is real.
  auto pair = make_collectives(*test::world().split(0, "sizes"), Backend::host, {.checks = false});
  std::vector<std::byte> buffer(rank == 0 ? 0 : 8);
  const std::string message = message_of([&] { publish(*pair, buffer, 1, 0, "weights"); });
  EXPECT_THAT(message, HasSubstr(rank == 0 ? "no error" : "sends 0 bytes"));
}

TEST(Checksum, every_changed_byte_moved_word_and_length_is_seen) {
  std::vector<std::byte> bytes(300);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * i);
  const std::uint64_t whole = checksum64(bytes);
  for (std::size_t i = 0; i < bytes.size(); ++i)
    for (const unsigned bit : {0u, 7u}) {
      bytes[i] ^= static_cast<std::byte>(1u << bit);
      EXPECT_NE(checksum64(bytes), whole) << i;
      bytes[i] ^= static_cast<std::byte>(1u << bit);
    }
  for (std::size_t length = 0; length < bytes.size(); ++length)
    EXPECT_NE(checksum64(std::span(bytes).first(length)), whole);
  std::swap_ranges(bytes.begin(), bytes.begin() + 8, bytes.begin() + 8);
  EXPECT_NE(checksum64(bytes), whole);
  EXPECT_NE(checksum64(std::vector<std::byte>(32)), checksum64(std::vector<std::byte>(64)));
}

}  // namespace
}  // namespace vbon::comm
