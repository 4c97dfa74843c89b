// The nonblocking algorithms under the MPI collectives, written on messages because MPI's own nonblocking reductions
// reach a fifth of the throughput when they are polled by a rank that sleeps, and fix no order of summation.
//
//   reductions   the data is cut into pieces and a piece into a block a rank; every rank sends each block to its owner,
//                the owner reduces in rank order, and for all_reduce sends the result to all
//   gathers      every rank sends its part to all others (a barrier: one byte, so that who is missing has a name)
//   broadcast    pieces flow down a binomial tree
//
// Each is a small state machine: advance() does what can be done now. A few pieces are under way at a time; piece k
// uses slot k mod kSlots and that slot's message tags, so messages of a slot match in order.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "comm/requests.hpp"
#include "vbon/comm/collectives.hpp"

namespace vbon::comm {

class MpiOperation : public Progress, public Awaited {
 public:
  static constexpr int kSlots = 4;
  static constexpr int kTags = 2 * kSlots;  // tags that an operation uses, from its first one

  MpiOperation(const Communicator& group, int tag, std::string title);
  ~MpiOperation() override;
  MpiOperation(const MpiOperation&) = delete;
  MpiOperation& operator=(const MpiOperation&) = delete;

  std::uint64_t moves() const override { return moves_; }
  std::string description() const override;

 protected:
  struct Slot {
    explicit Slot(const Communicator& group) : requests(group) {}
    Requests requests;
    std::int64_t piece = -1;  // -1: free
    int phase = 0;
    std::vector<std::byte> scratch;
  };
  virtual std::vector<int> awaited_peers() const;

  const Communicator& group_;
  const int tag_;
  const std::string title_;
  std::vector<Slot> slots_;
  std::uint64_t moves_ = 0;
};

// all_reduce and reduce_scatter.
class ReduceOperation final : public MpiOperation {
 public:
  ReduceOperation(const Communicator& group, int tag, std::string title, const Call& call, std::int64_t piece_bytes);
  bool advance() override;
  bool done() override { return finished_ == num_pieces_; }

 private:
  struct Block {
    std::int64_t in = 0, out = 0, count = 0;  // elements
  };
  Block block(std::int64_t piece, int owner) const;
  void start(Slot& slot, std::int64_t piece);
  void reduce(Slot& slot);
  void share(Slot& slot);
  std::int64_t bytes(std::int64_t count) const { return count * static_cast<std::int64_t>(size_of(in_.type)); }
  int slot_tag(const Slot& slot, int phase) const { return tag_ + 2 * static_cast<int>(slot.piece % kSlots) + phase; }

  const ConstView in_;
  const View out_;
  const Reduction op_;
  const bool all_;          // all_reduce: every rank gets every block
  std::int64_t piece_ = 0;  // elements
  std::int64_t block_ = 0;  // all_reduce: elements of a piece's blocks (the last ones may be shorter or empty)
  std::int64_t num_pieces_ = 0;
  std::int64_t started_ = 0;
  std::int64_t finished_ = 0;
};

// all_gather and all_gather_v.
class GatherOperation final : public MpiOperation {
 public:
  GatherOperation(const Communicator& group, int tag, std::string title, const Call& call);
  bool advance() override;
  bool done() override { return slots_[0].requests.empty(); }
};

// One byte from every rank to every rank.
class BarrierOperation final : public MpiOperation {
 public:
  BarrierOperation(const Communicator& group, int tag, std::string title);
  bool advance() override;
  bool done() override { return slots_[0].requests.empty(); }
};

class BroadcastOperation final : public MpiOperation {
 public:
  BroadcastOperation(const Communicator& group, int tag, std::string title, const Call& call, std::int64_t piece_bytes);
  bool advance() override;
  bool done() override { return finished_ == num_pieces_; }

 private:
  void start(Slot& slot, std::int64_t piece);
  void forward(Slot& slot);
  std::pair<std::byte*, std::int64_t> range(std::int64_t piece) const;

  const View data_;
  const std::int64_t piece_bytes_;
  int parent_ = -1;  // -1: this rank is the root
  std::vector<int> children_;
  std::int64_t num_pieces_ = 0;
  std::int64_t started_ = 0;
  std::int64_t finished_ = 0;
};

}  // namespace vbon::comm
