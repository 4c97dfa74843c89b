#include "vbon/comm/mailbox.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <map>

#include "support/world.hpp"
#include "vbon/comm/collectives.hpp"

namespace vbon::comm {
namespace {

struct Note {
  std::int64_t step = 0;
  std::int32_t chunk = 0;
  bool operator==(const Note&) const = default;
};

std::vector<std::byte> pattern(std::size_t bytes, int seed) {
  std::vector<std::byte> result(bytes);
  for (std::size_t i = 0; i < bytes; ++i)
    result[i] = static_cast<std::byte>((i * 31 + static_cast<std::size_t>(seed)) & 0xFFu);
  return result;
}

class MailboxOf : public testing::Test {
 protected:
  Mailbox box{test::world().dup("mail")};
  std::unique_ptr<Collectives> all = make_collectives(test::world().dup("all"), Backend::host);
  const int rank = box.rank();
  const int size = box.size();
};

TEST_F(MailboxOf, every_pair_keeps_the_order_of_each_tag) {
  constexpr int kMessages = 50;
  for (int i = 0; i < kMessages; ++i)
    for (int to = 0; to < size; ++to)
      for (const int tag : {3, 7}) box.send(to, tag, Note{.step = i, .chunk = rank * 1000 + to * 10 + tag});
  std::map<std::pair<int, int>, std::int64_t> next;  // (source, tag)
  for (const int tag : {7, 3})
    for (int i = 0; i < kMessages * size; ++i) {
      const Message message = box.wait({tag}, "a note");
      EXPECT_EQ(message.tag, tag);
      const Note note = message.as<Note>();
      EXPECT_EQ(note, (Note{.step = next[{message.source, tag}]++, .chunk = message.source * 1000 + rank * 10 + tag}));
    }
  EXPECT_FALSE(box.poll({3, 7}).has_value());
  box.flush();
  all->barrier();
}

TEST_F(MailboxOf, a_large_message_is_not_overtaken_by_a_small_one) {
  const int next = (rank + 1) % size;
  const int previous = (rank + size - 1) % size;
  for (int i = 0; i < 3; ++i) {
    box.send(next, 1, pattern((std::size_t{8} << 20) + static_cast<std::size_t>(rank), i));
    box.send(next, 1, pattern(static_cast<std::size_t>(i), i));
  }
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(box.wait({1}, "large").bytes, pattern((std::size_t{8} << 20) + static_cast<std::size_t>(previous), i));
    EXPECT_EQ(box.wait({1}, "small").bytes, pattern(static_cast<std::size_t>(i), i));
  }
  box.flush();
  EXPECT_EQ(box.unsent(), 0);
  all->barrier();
}

TEST_F(MailboxOf, mail_comes_in_while_its_reader_waits_for_something_else) {
  // Large messages need their reader to take part: flush() before the barrier works only if waiting in it is enough.
  const int next = (rank + 1) % size;
  box.send(next, 2, pattern(std::size_t{4} << 20, rank));
  if (rank % 2 == 0) box.flush();
  all->barrier("the others are here already");
  EXPECT_EQ(box.wait({2}, "large").bytes, pattern(std::size_t{4} << 20, (rank + size - 1) % size));
  box.flush();
  all->barrier();
}

TEST_F(MailboxOf, a_message_is_read_by_the_tags_asked_for) {
  box.send(rank, 5, Note{.step = 5});
  box.send(rank, 6, Note{.step = 6});
  EXPECT_FALSE(box.poll(4).has_value());
  EXPECT_EQ(box.poll(6)->as<Note>().step, 6);
  EXPECT_EQ(box.poll({6, 5})->as<Note>().step, 5);
  box.send(rank, 5, std::span<const std::byte>{});
  const Message empty = box.wait({5}, "nothing");
  EXPECT_EQ(empty.bytes.size(), 0u);
  EXPECT_THROW(empty.as<Note>(), InternalError);
}

TEST_F(MailboxOf, waiting_for_a_while_ends_without_an_error) {
  const auto start = std::chrono::steady_clock::now();
  const double idle = box.group().waiter().idle_seconds();
  EXPECT_FALSE(box.wait_for({9}, 0.2).has_value());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  EXPECT_GE(seconds, 0.2);
  EXPECT_GT(box.group().waiter().idle_seconds() - idle, 0.05) << "asleep, as far as the machine lets it";
  all->barrier();
}

TEST_F(MailboxOf, misuse_is_our_bug) {
  EXPECT_THROW(box.send(size, 1, Note{}), InternalError);
  EXPECT_THROW(box.send(rank, Mailbox::kMaxTag + 1, Note{}), InternalError);
}

}  // namespace
}  // namespace vbon::comm
