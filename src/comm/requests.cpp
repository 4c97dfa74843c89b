#include "comm/requests.hpp"

#include <algorithm>
#include <utility>

#include "vbon/base/error.hpp"

namespace vbon::comm {

Requests::Requests(Requests&& other) noexcept
    : group_(other.group_), requests_(std::exchange(other.requests_, {})), peers_(std::exchange(other.peers_, {})),
      expected_(std::exchange(other.expected_, {})) {}

void Requests::send(const std::byte* data, std::int64_t bytes, int peer, int tag) {
  if (bytes == 0) return;
  check(bytes <= kMaxMessageBytes, "a message fits MPI's counts");
  MPI_Request request = MPI_REQUEST_NULL;
  VBON_MPI(MPI_Isend, data, static_cast<int>(bytes), MPI_BYTE, peer, tag, group_->state().comm, &request);
  requests_.push_back(request);
  peers_.push_back(peer);
  expected_.push_back(-1);
}

void Requests::receive(std::byte* data, std::int64_t bytes, int peer, int tag) {
  if (bytes == 0) return;
  check(bytes <= kMaxMessageBytes, "a message fits MPI's counts");
  MPI_Request request = MPI_REQUEST_NULL;
  VBON_MPI(MPI_Irecv, data, static_cast<int>(bytes), MPI_BYTE, peer, tag, group_->state().comm, &request);
  requests_.push_back(request);
  peers_.push_back(peer);
  expected_.push_back(bytes);
}

bool Requests::test() {
  if (requests_.empty()) return false;
  over_.resize(requests_.size());
  statuses_.resize(requests_.size());
  int num_over = 0;
  const int code =
      MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &num_over, over_.data(), statuses_.data());
  if (code == MPI_ERR_IN_STATUS) {
    for (int i = 0; i < num_over; ++i)
      if (const int error = statuses_[static_cast<std::size_t>(i)].MPI_ERROR; error != MPI_SUCCESS)
        throw_mpi_error("MPI_Testsome", error);
  }
  if (code != MPI_SUCCESS) throw_mpi_error("MPI_Testsome", code);
  if (num_over <= 0) return false;
  for (int i = 0; i < num_over; ++i) {
    const std::int64_t expected = expected_[static_cast<std::size_t>(over_[static_cast<std::size_t>(i)])];
    int got = 0;
    if (expected >= 0) VBON_MPI(MPI_Get_count, &statuses_[static_cast<std::size_t>(i)], MPI_BYTE, &got);
    check(expected < 0 || got == expected, "ranks agree about the size of a message");
  }
  std::size_t kept = 0;
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] == MPI_REQUEST_NULL) continue;
    requests_[kept] = requests_[i];
    peers_[kept] = peers_[i];
    expected_[kept++] = expected_[i];
  }
  requests_.resize(kept);
  peers_.resize(kept);
  expected_.resize(kept);
  return true;
}

bool Requests::abandon() noexcept {
  bool quiet = true;
  int finalised = 0;
  MPI_Finalized(&finalised);
  for (std::size_t i = 0; finalised == 0 && i < requests_.size(); ++i) {
    int over = 0;
    if (expected_[i] >= 0) MPI_Cancel(&requests_[i]);
    MPI_Test(&requests_[i], &over, MPI_STATUS_IGNORE);
    if (over != 0) continue;
    if (expected_[i] >= 0) quiet = false;
    MPI_Request_free(&requests_[i]);
  }
  requests_.clear();
  return quiet;
}

}  // namespace vbon::comm
