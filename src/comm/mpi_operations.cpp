#include "comm/mpi_operations.hpp"

#include <algorithm>
#include <cstring>

#include "vbon/base/error.hpp"
#include "vbon/base/words.hpp"

namespace vbon::comm {
namespace {

constexpr std::int64_t kMinBlockBytes = 4096;  // smaller blocks cost more in messages than they win in parallel sums

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

MpiOperation::MpiOperation(const Communicator& group, int tag, std::string title)
    : group_(group), tag_(tag), title_(std::move(title)) {
  group_.waiter().add(*this);
}

MpiOperation::~MpiOperation() {
  group_.waiter().remove(*this);
  for (Slot& slot : slots_)
    if (!slot.requests.abandon())
      new std::vector<std::byte>(std::move(slot.scratch));  // leaked on purpose: a peer may still write to it
}

std::vector<int> MpiOperation::awaited_peers() const {
  std::vector<int> peers;
  for (const Slot& slot : slots_) peers.insert(peers.end(), slot.requests.peers().begin(), slot.requests.peers().end());
  std::sort(peers.begin(), peers.end());
  peers.erase(std::unique(peers.begin(), peers.end()), peers.end());
  return peers;
}

std::string MpiOperation::description() const {
  constexpr std::size_t kNamed = 4;
  const std::vector<int> peers = awaited_peers();
  std::vector<std::string> places;
  for (int peer : peers)
    if (places.size() < kNamed) places.push_back(group_.place_of(peer));
  if (peers.size() > kNamed) places.push_back(fmt::format("{} more", peers.size() - kNamed));
  return places.empty() ? title_ : fmt::format("{} for {}", title_, joined(places));
}

ReduceOperation::ReduceOperation(const Communicator& group, int tag, std::string title, const Call& call,
                                 std::int64_t piece_bytes)
    : MpiOperation(group, tag, std::move(title)), in_(call.in), out_(call.out), op_(call.reduction),
      all_(call.operation == Operation::all_reduce) {
  const std::int64_t ranks = group.size();
  const auto element = static_cast<std::int64_t>(size_of(in_.type));
  if (all_) {
    if (in_.data != out_.data && in_.count > 0) std::memcpy(out_.data, in_.data, static_cast<std::size_t>(in_.bytes()));
    piece_ = std::clamp<std::int64_t>(piece_bytes / element, 1, std::max<std::int64_t>(in_.count, 1));
    block_ = std::max(divide_up(piece_, ranks), kMinBlockBytes / element);
    num_pieces_ = divide_up(in_.count, piece_);
  } else {
    piece_ = std::clamp<std::int64_t>(piece_bytes / element / ranks, 1, std::max<std::int64_t>(out_.count, 1));
    num_pieces_ = divide_up(out_.count, piece_);
  }
  for (int i = 0; i < kSlots; ++i) slots_.emplace_back(group);
}

ReduceOperation::Block ReduceOperation::block(std::int64_t piece, int owner) const {
  const std::int64_t begin = piece * piece_;
  if (!all_) {
    const std::int64_t count = std::min(piece_, out_.count - begin);
    return {.in = owner * out_.count + begin, .out = begin, .count = count};
  }
  const std::int64_t end = std::min(begin + piece_, in_.count);
  const std::int64_t first = std::min(begin + owner * block_, end);
  return {.in = first, .out = first, .count = std::min(block_, end - first)};
}

void ReduceOperation::start(Slot& slot, std::int64_t piece) {
  slot.piece = piece;
  slot.phase = 0;
  const int ranks = group_.size();
  const int rank = group_.rank();
  const std::byte* source = all_ ? out_.data : in_.data;  // all_reduce works in place on a copy
  const std::int64_t mine = bytes(block(piece, rank).count);
  slot.scratch.resize(static_cast<std::size_t>(mine * (ranks - 1)));
  std::byte* room = slot.scratch.data();
  for (int peer = 0; peer < ranks; ++peer) {
    if (peer == rank) continue;
    slot.requests.receive(room, mine, peer, slot_tag(slot, 0));
    room += mine;
  }
  for (int step = 1; step < ranks; ++step) {
    const int peer = (rank + step) % ranks;
    const Block theirs = block(piece, peer);
    slot.requests.send(source + bytes(theirs.in), bytes(theirs.count), peer, slot_tag(slot, 0));
  }
}

void ReduceOperation::reduce(Slot& slot) {
  const Block mine = block(slot.piece, group_.rank());
  if (mine.count == 0) return;
  std::vector<const std::byte*> sources;
  const std::byte* room = slot.scratch.data();
  for (int peer = 0; peer < group_.size(); ++peer) {
    if (peer == group_.rank()) {
      sources.push_back((all_ ? out_.data : in_.data) + bytes(mine.in));
    } else {
      sources.push_back(room);
      room += bytes(mine.count);
    }
  }
  reduce_in_order(sources, out_.data + bytes(mine.out), mine.count, in_.type, op_);
}

void ReduceOperation::share(Slot& slot) {
  slot.phase = 1;
  const int ranks = group_.size();
  const Block mine = block(slot.piece, group_.rank());
  for (int peer = 0; peer < ranks; ++peer) {
    if (peer == group_.rank()) continue;
    const Block theirs = block(slot.piece, peer);
    slot.requests.receive(out_.data + bytes(theirs.out), bytes(theirs.count), peer, slot_tag(slot, 1));
  }
  for (int step = 1; step < ranks; ++step)
    slot.requests.send(out_.data + bytes(mine.out), bytes(mine.count), (group_.rank() + step) % ranks,
                       slot_tag(slot, 1));
}

bool ReduceOperation::advance() {
  bool moved = false;
  for (Slot& slot : slots_) {
    if (slot.piece >= 0) {
      moved = slot.requests.test() || moved;
      if (!slot.requests.empty()) continue;
      if (slot.phase == 0) {
        reduce(slot);
        if (all_) share(slot);
        else slot.phase = 1;
      }
      if (!slot.requests.empty()) continue;
      slot.piece = -1;
      ++finished_;
      moved = true;
    }
    // A slot takes the pieces of its number only, in order.
    if (started_ < num_pieces_ && started_ % kSlots == &slot - slots_.data()) {
      start(slot, started_++);
      moved = true;
    }
  }
  if (moved) ++moves_;
  return moved;
}

GatherOperation::GatherOperation(const Communicator& group, int tag, std::string title, const Call& call)
    : MpiOperation(group, tag, std::move(title)) {
  const int ranks = group.size();
  const int rank = group.rank();
  const auto element = static_cast<std::int64_t>(size_of(call.in.type));
  Requests& requests = slots_.emplace_back(group).requests;
  std::int64_t begin = 0;
  for (int peer = 0; peer < ranks; ++peer) {
    const std::int64_t part = call.counts[static_cast<std::size_t>(peer)] * element;
    std::byte* place = call.out.data + begin;
    begin += part;
    if (peer == rank) {
      if (part > 0 && place != call.in.data) std::memcpy(place, call.in.data, static_cast<std::size_t>(part));
      continue;
    }
    for (std::int64_t at = 0; at < part; at += kMaxMessageBytes)
      requests.receive(place + at, std::min(kMaxMessageBytes, part - at), peer, tag_);
  }
  for (int step = 1; step < ranks; ++step)
    for (std::int64_t at = 0; at < call.in.bytes(); at += kMaxMessageBytes)
      requests.send(call.in.data + at, std::min(kMaxMessageBytes, call.in.bytes() - at), (rank + step) % ranks, tag_);
}

bool GatherOperation::advance() {
  const bool moved = slots_[0].requests.test();
  if (moved) ++moves_;
  return moved;
}

BarrierOperation::BarrierOperation(const Communicator& group, int tag, std::string title)
    : MpiOperation(group, tag, std::move(title)) {
  const int ranks = group.size();
  Slot& slot = slots_.emplace_back(group);
  slot.scratch.resize(static_cast<std::size_t>(ranks));
  for (int step = 1; step < ranks; ++step)
    slot.requests.receive(&slot.scratch[static_cast<std::size_t>(step)], 1, (group.rank() + ranks - step) % ranks, tag);
  for (int step = 1; step < ranks; ++step)
    slot.requests.send(slot.scratch.data(), 1, (group.rank() + step) % ranks, tag);
}

bool BarrierOperation::advance() {
  const bool moved = slots_[0].requests.test();
  if (moved) ++moves_;
  return moved;
}

BroadcastOperation::BroadcastOperation(const Communicator& group, int tag, std::string title, const Call& call,
                                       std::int64_t piece_bytes)
    : MpiOperation(group, tag, std::move(title)), data_(call.out),
      piece_bytes_(std::min(piece_bytes, kMaxMessageBytes)), num_pieces_(divide_up(data_.bytes(), piece_bytes_)) {
  // The binomial tree on ranks counted from the root: the parent lacks the lowest set bit, children add a lower one.
  const int ranks = group.size();
  const int mine = (group.rank() - call.root + ranks) % ranks;
  const auto real = [&](int counted) { return (counted + call.root) % ranks; };
  int bit = 1;
  for (; bit < ranks && (mine & bit) == 0; bit <<= 1) {
  }
  if (mine != 0) parent_ = real(mine & ~bit);
  for (bit >>= 1; bit > 0; bit >>= 1)
    if (mine + bit < ranks) children_.push_back(real(mine + bit));
  for (int i = 0; i < kSlots; ++i) slots_.emplace_back(group);
}

std::pair<std::byte*, std::int64_t> BroadcastOperation::range(std::int64_t piece) const {
  const std::int64_t begin = piece * piece_bytes_;
  return {data_.data + begin, std::min(piece_bytes_, data_.bytes() - begin)};
}

void BroadcastOperation::start(Slot& slot, std::int64_t piece) {
  slot.piece = piece;
  slot.phase = 0;
  const auto [data, bytes] = range(piece);
  if (parent_ >= 0) slot.requests.receive(data, bytes, parent_, tag_ + static_cast<int>(piece % kSlots));
}

void BroadcastOperation::forward(Slot& slot) {
  slot.phase = 1;
  const auto [data, bytes] = range(slot.piece);
  for (int child : children_) slot.requests.send(data, bytes, child, tag_ + static_cast<int>(slot.piece % kSlots));
}

bool BroadcastOperation::advance() {
  bool moved = false;
  for (Slot& slot : slots_) {
    if (slot.piece >= 0) {
      moved = slot.requests.test() || moved;
      if (slot.requests.empty() && slot.phase == 0) forward(slot);
      if (!slot.requests.empty()) continue;
      slot.piece = -1;
      ++finished_;
      moved = true;
    }
    if (started_ < num_pieces_ && started_ % kSlots == &slot - slots_.data()) {
      start(slot, started_++);
      moved = true;
    }
  }
  if (moved) ++moves_;
  return moved;
}

}  // namespace vbon::comm
