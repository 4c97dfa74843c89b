// Collectives of MPI ranks on host memory.
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "comm/backends.hpp"
#include "comm/mpi_operations.hpp"
#include "vbon/base/error.hpp"

namespace vbon::comm {
namespace {

// MPI promises tags up to 32767.
constexpr int kTagRounds = 4000;
constexpr int kCheckTag = kTagRounds * MpiOperation::kTags;
static_assert(kCheckTag + MpiOperation::kTags <= 32767);

// What one rank is about to call, as the others see it.
struct Signature {
  std::uint64_t number = 0;
  std::int64_t in = 0;
  std::int64_t out = 0;
  std::int32_t root = 0;
  Operation operation = Operation::barrier;
  DataType type = DataType::uint8;
  Reduction reduction = Reduction::sum;
  char what[33] = {};
};

Signature signature_of(const Call& call, std::uint64_t number) {
  Signature mine;
  std::memset(static_cast<void*>(&mine), 0, sizeof(mine));  // padding too: signatures are compared by their bytes
  mine.number = number;
  const bool ragged = call.operation == Operation::all_gather_v;
  mine.in = ragged ? -1 : call.in.count;
  mine.out = call.out.count;
  mine.root = call.root;
  mine.operation = call.operation;
  mine.type = call.in.type;
  mine.reduction = call.reduction;
  call.what.copy(mine.what, sizeof(mine.what) - 1);
  return mine;
}

std::string text_of(const Signature& s) {
  const bool reduces = s.operation == Operation::all_reduce || s.operation == Operation::reduce_scatter;
  std::string text = fmt::format("{} #{} '{}' ({} {}", name_of(s.operation), s.number, s.what, s.out, name_of(s.type));
  if (reduces) text += fmt::format(", {}", name_of(s.reduction));
  if (s.operation == Operation::broadcast) text += fmt::format(", root {}", s.root);
  return text + ")";
}

class MpiCollectives final : public Collectives {
 public:
  MpiCollectives(Communicator group, CollectivesOptions options)
      : group_(std::move(group)), options_(std::move(options)) {
    options_.piece_bytes = std::min(options_.piece_bytes, kMaxMessageBytes);
  }
  const Communicator& group() const override { return group_; }
  bool on_device() const override { return false; }
  Collectives& host() override { return *this; }

 private:
  Pending start(const Call& call) override;
  void compare(const Call& call, const std::string& title);

  Communicator group_;
  CollectivesOptions options_;
  std::uint64_t number_ = 0;
};

Pending MpiCollectives::start(const Call& call) {
  ++number_;
  const std::string title = fmt::format("{} #{}{} of group '{}'", name_of(call.operation), number_,
                                        call.what.empty() ? "" : fmt::format(" '{}'", call.what), group_.name());
  if (options_.checks) compare(call, title);
  const int tag = static_cast<int>(number_ % kTagRounds) * MpiOperation::kTags;
  std::unique_ptr<Awaited> operation;
  switch (call.operation) {
    case Operation::all_reduce:
    case Operation::reduce_scatter:
      operation = std::make_unique<ReduceOperation>(group_, tag, title, call, options_.piece_bytes);
      break;
    case Operation::broadcast:
      operation = std::make_unique<BroadcastOperation>(group_, tag, title, call, options_.piece_bytes);
      break;
    case Operation::all_gather:
    case Operation::all_gather_v: operation = std::make_unique<GatherOperation>(group_, tag, title, call); break;
    case Operation::barrier: operation = std::make_unique<BarrierOperation>(group_, tag, title); break;
  }
  return Pending(std::move(operation), group_.waiter());
}

void MpiCollectives::compare(const Call& call, const std::string& title) {
  const Signature mine = signature_of(call, number_);
  std::vector<Signature> all(static_cast<std::size_t>(size()));
  constexpr auto bytes = static_cast<std::int64_t>(sizeof(Signature));
  const Call exchange = {.operation = Operation::all_gather,
                         .in = {reinterpret_cast<const std::byte*>(&mine), bytes, DataType::uint8},
                         .out = {reinterpret_cast<std::byte*>(all.data()), bytes * size(), DataType::uint8},
                         .counts = std::vector<std::int64_t>(all.size(), bytes)};
  GatherOperation operation(group_, kCheckTag, "the check before " + title, exchange);
  group_.waiter().wait(operation);
  for (int r = 1; r < size(); ++r) {
    const Signature& other = all[static_cast<std::size_t>(r)];
    if (std::memcmp(&other, all.data(), sizeof(Signature)) != 0)
      throw InternalError(fmt::format("ranks of group '{}' call different operations: {} calls {}, {} calls {}",
                                      group_.name(), group_.place_of(0), text_of(all[0]), group_.place_of(r),
                                      text_of(other)));
  }
}

}  // namespace

std::unique_ptr<Collectives> make_mpi_collectives(Communicator group, CollectivesOptions options) {
  return std::make_unique<MpiCollectives>(std::move(group), std::move(options));
}

}  // namespace vbon::comm
