// Small tagged messages between the ranks of one group, for announcements ("chunk 3 of step 7 is committed") rather
// than data. Sending never blocks and copies; messages of one (source, tag) arrive in the order they were sent; a rank
// may write to itself. While a rank waits for anything at all, its mailbox goes on receiving.
//
// A rank whose wait is given up asks the others whether they are there: whoever waits for something answers at once, so
// the message names the one that everybody waits for, however many wait for each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "vbon/base/error.hpp"
#include "vbon/comm/mpi.hpp"

namespace vbon::comm {

struct Message {
  int source = 0;
  int tag = 0;
  std::vector<std::byte> bytes;

  // The value that was sent as T; InternalError where the size is not T's.
  template <class T>
  requires std::is_trivially_copyable_v<T> T as()
  const {
    check(bytes.size() == sizeof(T), "a message has the size of what it is read as");
    T value;
    std::memcpy(&value, bytes.data(), sizeof(T));
    return value;
  }
};

class Mailbox {
 public:
  static constexpr int kMaxTag = 32765;  // MPI's least limit, but for two of our own

  explicit Mailbox(Communicator group);  // takes a dup or split over: it belongs to this mailbox alone
  ~Mailbox();                            // logs what was never sent or never read
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  const Communicator& group() const;
  int rank() const { return group().rank(); }
  int size() const { return group().size(); }

  void send(int destination, int tag, std::span<const std::byte> bytes);  // tag: 0 to kMaxTag; at most 1 GiB
  template <class T>
  requires std::is_trivially_copyable_v<T>
  void send(int destination, int tag, const T& value) { send(destination, tag, std::as_bytes(std::span(&value, 1))); }

  // The oldest message with one of the tags, if one is here. Never blocks.
  std::optional<Message> poll(std::initializer_list<int> tags);
  std::optional<Message> poll(int tag) { return poll({tag}); }
  // Sleeps until there is one. EnvironmentError naming `what` after the waiter's timeout without any message from
  // anyone.
  Message wait(std::initializer_list<int> tags, std::string_view what);
  // The same for `seconds` at most; nullopt: none came.
  std::optional<Message> wait_for(std::initializer_list<int> tags, double seconds);
  // Sleeps until everything sent has left.
  void flush();
  std::int64_t unsent() const;

 private:
  class Post;
  std::unique_ptr<Post> post_;
};

}  // namespace vbon::comm
