// A set of nonblocking messages under way, polled together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "comm/mpi_api.hpp"

namespace vbon::comm {

inline constexpr std::int64_t kMaxMessageBytes = std::int64_t{1} << 30;  // MPI 3 counts are ints

class Requests {
 public:
  explicit Requests(const Communicator& group) : group_(&group) {}
  ~Requests() { abandon(); }
  Requests(Requests&& other) noexcept;
  Requests& operator=(Requests&&) = delete;

  // Empty messages are not sent: both sides know the size.
  void send(const std::byte* data, std::int64_t bytes, int peer, int tag);
  void receive(std::byte* data, std::int64_t bytes, int peer, int tag);
  bool test();  // polls; true: at least one message is over
  bool empty() const { return requests_.empty(); }
  const std::vector<int>& peers() const { return peers_; }  // of the messages still under way
  // Gives up on what is under way. false: MPI may still write to the receive buffers, which must stay where they are.
  bool abandon() noexcept;

 private:
  const Communicator* group_;
  std::vector<MPI_Request> requests_;
  std::vector<int> peers_;
  std::vector<std::int64_t> expected_;  // bytes of a receive; -1: a send
  std::vector<int> over_;
  std::vector<MPI_Status> statuses_;
};

}  // namespace vbon::comm
