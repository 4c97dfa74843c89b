#include "vbon/comm/collectives.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "comm/backends.hpp"

namespace vbon::comm {

bool Pending::test() {
  if (!operation_) return true;
  waiter_->advance();
  if (!operation_->done()) return false;
  operation_.reset();
  return true;
}

void Pending::wait() {
  if (!operation_) return;
  waiter_->wait(*operation_);
  operation_.reset();
}

std::string_view name_of(Operation operation) {
  switch (operation) {
    case Operation::all_reduce: return "all_reduce";
    case Operation::broadcast: return "broadcast";
    case Operation::all_gather: return "all_gather";
    case Operation::all_gather_v: return "all_gather_v";
    case Operation::reduce_scatter: return "reduce_scatter";
    case Operation::barrier: return "barrier";
  }
  return "?";
}

void Collectives::check_parts(std::span<const std::int64_t> counts, std::int64_t in, std::int64_t out) const {
  check(counts.size() == static_cast<std::size_t>(size()), "all_gather_v: a count of every rank");
  check(counts[static_cast<std::size_t>(rank())] == in, "all_gather_v: this rank's count is its size");
  check(std::accumulate(counts.begin(), counts.end(), std::int64_t{0}) == out, "all_gather_v: out holds every part");
}

std::vector<std::int64_t> Collectives::gather_counts(std::int64_t mine, std::string_view what) {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(size()));
  all_gather(std::span<const std::int64_t>(&mine, 1), std::span<std::int64_t>(counts), what);
  return counts;
}

LocalCollectives::LocalCollectives(Communicator group) : group_(std::move(group)) {
  check(group_.size() == 1, "local collectives have one rank");
}

void Collectives::copy_to_host(std::span<const std::byte> from, std::span<std::byte> to) {
  check(from.size() == to.size(), "as much is copied as there is room for");
  std::copy(from.begin(), from.end(), to.begin());
}

Pending LocalCollectives::start(const Call& call) {
  if (call.in.data != call.out.data && call.in.count > 0)
    std::memmove(call.out.data, call.in.data, static_cast<std::size_t>(call.in.bytes()));
  return {};
}

std::unique_ptr<Collectives> make_collectives(Communicator group, Backend backend, CollectivesOptions options) {
  check(options.piece_bytes > 0, "pieces have a size");
  if (backend == Backend::nccl) return make_nccl_collectives(std::move(group), std::move(options));
  if (group.is_local()) return std::make_unique<LocalCollectives>(std::move(group));
  return make_mpi_collectives(std::move(group), std::move(options));
}

}  // namespace vbon::comm
