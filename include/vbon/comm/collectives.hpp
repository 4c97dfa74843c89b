// Collective operations on typed spans behind one interface: one rank without MPI, MPI ranks, NCCL devices.
//
// Every rank of the group makes the same calls in the same order with the same sizes (all_gather_v excepted). Calls are
// blocking unless their name ends in _start; blocked ranks sleep (wait.hpp) and give up after the waiter's timeout with
// an EnvironmentError naming rank, host, operation, its number and the ranks it waits for. After such an error the
// process is expected to end: operations in flight may still touch their buffers.
//
// Host backends reduce in rank order, ((x0 + x1) + x2) + ..., whatever the sizes of pieces and messages: the result is
// a function of the inputs and their order alone, and the same bits on every rank. NCCL's order is its own.
//
// `what` names the data in messages: "gradients", "weights". Spans are host memory, or device memory if on_device().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vbon/base/error.hpp"
#include "vbon/comm/element.hpp"
#include "vbon/comm/mpi.hpp"
#include "vbon/comm/wait.hpp"

namespace vbon::comm {

// An operation under way. Its spans must live until wait() returned or test() said true; nothing progresses in between
// but while this rank calls test() or waits for anything.
class [[nodiscard]] Pending {
 public:
  Pending() = default;  // over already
  Pending(std::unique_ptr<Awaited> operation, Waiter& waiter) : operation_(std::move(operation)), waiter_(&waiter) {}
  bool test();  // polls once; true: over
  void wait();

 private:
  std::unique_ptr<Awaited> operation_;
  Waiter* waiter_ = nullptr;
};

// Ragged parts by rank: part r is values[offsets[r], offsets[r + 1]).
template <Element T>
struct Gathered {
  std::vector<T> values;
  std::vector<std::int64_t> offsets;  // [ranks + 1]
  std::span<const T> of(int rank) const {
    const auto r = static_cast<std::size_t>(rank);
    return std::span(values).subspan(static_cast<std::size_t>(offsets[r]),
                                     static_cast<std::size_t>(offsets[r + 1] - offsets[r]));
  }
};

enum class Operation : std::uint8_t { all_reduce, broadcast, all_gather, all_gather_v, reduce_scatter, barrier };
std::string_view name_of(Operation operation);

// One call as the backends see it.
struct Call {
  Operation operation = Operation::barrier;
  ConstView in;
  View out;
  Reduction reduction = Reduction::sum;
  int root = 0;
  std::vector<std::int64_t> counts;  // all_gather, all_gather_v: elements of each rank's part of `out`
  std::string_view what;
};

class Collectives {
 public:
  virtual ~Collectives() = default;
  virtual const Communicator& group() const = 0;
  virtual bool on_device() const = 0;
  virtual Collectives& host() = 0;  // the same ranks on host memory: *this unless on_device()
  // Not collective. Copies memory that these collectives work on, once what is queued to compute it is done.
  virtual void copy_to_host(std::span<const std::byte> from, std::span<std::byte> to);
  int rank() const { return group().rank(); }
  int size() const { return group().size(); }
  double idle_seconds() const { return group().waiter().idle_seconds(); }

  template <Element T>
  void all_reduce(std::span<T> values, Reduction op, std::string_view what = {}) {  // in place
    all_reduce_start(values, op, what).wait();
  }
  template <Element T>
  void all_reduce(std::span<const T> in, std::span<T> out, Reduction op, std::string_view what = {}) {
    check(in.size() == out.size(), "all_reduce: in and out have one size");
    start({.operation = Operation::all_reduce, .in = view_of(in), .out = view_of(out), .reduction = op, .what = what})
        .wait();
  }
  template <Element T>
  Pending all_reduce_start(std::span<T> values, Reduction op, std::string_view what = {}) {
    const View out = view_of(values);
    return start({.operation = Operation::all_reduce, .in = out.as_const(), .out = out, .reduction = op, .what = what});
  }

  template <Element T>
  void broadcast(std::span<T> values, int root, std::string_view what = {}) {
    check(root >= 0 && root < size(), "broadcast: the root is a rank of the group");
    const View out = view_of(values);
    start({.operation = Operation::broadcast, .in = out.as_const(), .out = out, .root = root, .what = what}).wait();
  }

  // out: the ranks' parts one after the other, all of in.size().
  template <Element T>
  void all_gather(std::span<const T> in, std::span<T> out, std::string_view what = {}) {
    check(in.size() * static_cast<std::size_t>(size()) == out.size(), "all_gather: out holds a part of every rank");
    start({.operation = Operation::all_gather,
           .in = view_of(in),
           .out = view_of(out),
           .counts = std::vector<std::int64_t>(static_cast<std::size_t>(size()), static_cast<std::int64_t>(in.size())),
           .what = what})
        .wait();
  }
  template <Element T>
  void all_gather(std::span<T> values, std::string_view what = {}) {  // in place: this rank's part is in its place
    check(values.size() % static_cast<std::size_t>(size()) == 0, "all_gather: equal parts");
    const std::size_t part = values.size() / static_cast<std::size_t>(size());
    all_gather(std::span<const T>(values).subspan(part * static_cast<std::size_t>(rank()), part), values, what);
  }

  // Parts of known sizes, different by rank; counts are the same on every rank.
  template <Element T>
  void all_gather_v(std::span<const T> in, std::span<T> out, std::span<const std::int64_t> counts,
                    std::string_view what = {}) {
    check_parts(counts, static_cast<std::int64_t>(in.size()), static_cast<std::int64_t>(out.size()));
    start({.operation = Operation::all_gather_v,
           .in = view_of(in),
           .out = view_of(out),
           .counts = std::vector<std::int64_t>(counts.begin(), counts.end()),
           .what = what})
        .wait();
  }
  // Parts of sizes that the others do not know, with their partition. Host memory, on every backend.
  template <Element T>
  Gathered<T> all_gather_v(std::span<const T> in, std::string_view what = {}) {
    Gathered<T> result;
    const std::vector<std::int64_t> counts = host().gather_counts(static_cast<std::int64_t>(in.size()), what);
    result.offsets = {0};
    for (std::int64_t count : counts) result.offsets.push_back(result.offsets.back() + count);
    result.values.resize(static_cast<std::size_t>(result.offsets.back()));
    host().all_gather_v(in, std::span<T>(result.values), std::span<const std::int64_t>(counts), what);
    return result;
  }

  // in: a part for every rank, all of out.size(); out: the reduction of this rank's parts.
  template <Element T>
  void reduce_scatter(std::span<const T> in, std::span<T> out, Reduction op, std::string_view what = {}) {
    check(out.size() * static_cast<std::size_t>(size()) == in.size(), "reduce_scatter: in holds a part for every rank");
    start(
        {.operation = Operation::reduce_scatter, .in = view_of(in), .out = view_of(out), .reduction = op, .what = what})
        .wait();
  }
  // In place: returns this rank's part, which holds its reduction; the other parts are left as they were.
  template <Element T>
  std::span<T> reduce_scatter(std::span<T> values, Reduction op, std::string_view what = {}) {
    check(values.size() % static_cast<std::size_t>(size()) == 0, "reduce_scatter: equal parts");
    const std::size_t part = values.size() / static_cast<std::size_t>(size());
    const std::span<T> mine = values.subspan(part * static_cast<std::size_t>(rank()), part);
    reduce_scatter(std::span<const T>(values), mine, op, what);
    return mine;
  }

  // The same, begun: this rank's part is its own once it is over.
  template <Element T>
  Pending reduce_scatter_start(std::span<T> values, Reduction op, std::string_view what = {}) {
    check(values.size() % static_cast<std::size_t>(size()) == 0, "reduce_scatter: equal parts");
    const std::size_t part = values.size() / static_cast<std::size_t>(size());
    return start({.operation = Operation::reduce_scatter,
                  .in = view_of(std::span<const T>(values)),
                  .out = view_of(values.subspan(part * static_cast<std::size_t>(rank()), part)),
                  .reduction = op,
                  .what = what});
  }

  void barrier(std::string_view what = {}) { start({.operation = Operation::barrier, .what = what}).wait(); }

 protected:
  virtual Pending start(const Call& call) = 0;

 private:
  void check_parts(std::span<const std::int64_t> counts, std::int64_t in, std::int64_t out) const;
  std::vector<std::int64_t> gather_counts(std::int64_t mine, std::string_view what);
};

// One rank: every operation is a copy at most.
class LocalCollectives final : public Collectives {
 public:
  explicit LocalCollectives(Communicator group = Communicator::local());
  const Communicator& group() const override { return group_; }
  bool on_device() const override { return false; }
  Collectives& host() override { return *this; }

 private:
  Pending start(const Call& call) override;
  Communicator group_;
};

enum class Backend { host, nccl };

struct CollectivesOptions {
  std::int64_t piece_bytes = std::int64_t{2} << 20;  // host messages are cut into pieces of this size
  // Compare operation, sizes, type and number across ranks before each call (slow). Without, ranks that call with
  // different sizes may overwrite memory: Open MPI 4.1 does not bound large messages between processes of one node.
  bool checks = false;
  int device = 0;  // nccl: the CUDA device of this rank
  // nccl: the stream (a cudaStream_t) whose work comes before the next operation; none: the default stream.
  std::function<void*()> compute_stream;
};

// Takes the group over; it belongs to these collectives alone (give them a dup or split). Collective. The host backend
// of a local group is LocalCollectives. nccl: UserError where the program was built without CUDA or has no such device.
std::unique_ptr<Collectives> make_collectives(Communicator group, Backend backend, CollectivesOptions options = {});

}  // namespace vbon::comm
