// Collectives of CUDA devices: a stream of their own, ordered after the compute stream by events.
//
// The host polls an operation's end asleep and never blocks inside CUDA or NCCL (the communicator is nonblocking), so a
// lost peer becomes an error with the operation's name instead of a hang. Sums are NCCL's: their order is its own, and
// 16-bit floats are rounded at every hop: reduce gradients in fp32.
#include <cuda_runtime_api.h>
#include <nccl.h>

#include <utility>

#include "comm/backends.hpp"
#include "comm/owned.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/log.hpp"

namespace vbon::comm {
namespace {

#define VBON_CUDA_CALL(function, ...)                                                               \
  do {                                                                                              \
    if (const cudaError_t vbon_code = function(__VA_ARGS__); vbon_code != cudaSuccess) [[unlikely]] \
      throw EnvironmentError("{} failed: {}", #function, cudaGetErrorString(vbon_code));            \
  } while (false)

// ncclInProgress is no error: the caller polls.
#define VBON_NCCL_CALL(function, ...)                                                                                  \
  do {                                                                                                                 \
    if (const ncclResult_t vbon_code = function(__VA_ARGS__); vbon_code != ncclSuccess && vbon_code != ncclInProgress) \
        [[unlikely]]                                                                                                   \
      throw EnvironmentError("{} failed: {}", #function, ncclGetErrorString(vbon_code));                               \
  } while (false)

struct DestroyStream {
  void operator()(cudaStream_t stream) const noexcept { cudaStreamDestroy(stream); }
};
struct DestroyEvent {
  void operator()(cudaEvent_t event) const noexcept { cudaEventDestroy(event); }
};
// Aborts rather than finalises: an owner that goes has seen its operations end, or does not wait for peers any more.
struct AbortNccl {
  void operator()(ncclComm_t comm) const noexcept {
    if (const ncclResult_t code = ncclCommAbort(comm); code != ncclSuccess)
      log::error("ncclCommAbort failed: {}", ncclGetErrorString(code));
  }
};
using Stream = Owned<cudaStream_t, DestroyStream>;
using Event = Owned<cudaEvent_t, DestroyEvent>;
using NcclComm = Owned<ncclComm_t, AbortNccl>;

Event make_event() {
  cudaEvent_t event = nullptr;
  VBON_CUDA_CALL(cudaEventCreateWithFlags, &event, cudaEventDisableTiming);
  return Event(event);
}

ncclDataType_t nccl_type(DataType type) {
  switch (type) {
    case DataType::float32: return ncclFloat32;
    case DataType::float64: return ncclFloat64;
    case DataType::int32: return ncclInt32;
    case DataType::int64: return ncclInt64;
    case DataType::uint8: return ncclUint8;
    case DataType::bfloat16: return ncclBfloat16;
    case DataType::float16: return ncclFloat16;
  }
  throw InternalError("unknown data type");
}

ncclRedOp_t nccl_op(Reduction op) { return op == Reduction::sum ? ncclSum : op == Reduction::max ? ncclMax : ncclMin; }

// Over when the communicator has no work left to enqueue or to set up.
class CommReady final : public Awaited {
 public:
  CommReady(ncclComm_t comm, std::string description) : comm_(comm), description_(std::move(description)) {}
  bool done() override {
    ncclResult_t state = ncclSuccess;
    VBON_NCCL_CALL(ncclCommGetAsyncError, comm_, &state);
    if (state == ncclInProgress) return false;
    if (state != ncclSuccess)
      throw EnvironmentError("{} failed: {} ({})", description_, ncclGetErrorString(state), ncclGetLastError(comm_));
    return true;
  }
  std::string description() const override { return description_; }

 private:
  ncclComm_t comm_;
  std::string description_;
};

// Over when the stream passed the operation's end.
class NcclOperation final : public Awaited {
 public:
  NcclOperation(ncclComm_t comm, Event end, std::string title)
      : health_(comm, title), end_(std::move(end)), title_(std::move(title)) {}
  bool done() override {
    health_.done();  // throws where NCCL noticed a failure
    const cudaError_t code = cudaEventQuery(end_.get());
    if (code == cudaErrorNotReady) return false;
    if (code != cudaSuccess) throw EnvironmentError("{} failed: {}", title_, cudaGetErrorString(code));
    return true;
  }
  std::string description() const override { return title_; }

 private:
  CommReady health_;
  Event end_;
  std::string title_;
};

class NcclCollectives final : public Collectives {
 public:
  NcclCollectives(Communicator group, CollectivesOptions options);
  const Communicator& group() const override { return host_->group(); }
  bool on_device() const override { return true; }
  Collectives& host() override { return *host_; }
  void copy_to_host(std::span<const std::byte> from, std::span<std::byte> to) override;

 private:
  Pending start(const Call& call) override;
  void enqueue(const Call& call);
  void follow_compute_stream();

  CollectivesOptions options_;
  std::unique_ptr<Collectives> host_;
  Stream stream_;
  Event compute_done_;
  Owned<void*, decltype([](void* memory) noexcept { cudaFree(memory); })> barrier_word_;
  NcclComm comm_;
  std::uint64_t number_ = 0;
};

void use_device(int device) {
  int devices = 0;
  if (const cudaError_t code = cudaGetDeviceCount(&devices); code != cudaSuccess || devices == 0)
    throw UserError("no CUDA device here ({}): use cluster.device: cpu", cudaGetErrorString(code));
  require(device >= 0 && device < devices, "CUDA device {} does not exist: this node has {}", device, devices);
  VBON_CUDA_CALL(cudaSetDevice, device);
}

NcclCollectives::NcclCollectives(Communicator group, CollectivesOptions options) : options_(std::move(options)) {
  use_device(options_.device);
  host_ = make_collectives(std::move(group), Backend::host,
                           {.piece_bytes = options_.piece_bytes, .checks = options_.checks});
  cudaStream_t stream = nullptr;
  VBON_CUDA_CALL(cudaStreamCreateWithFlags, &stream, cudaStreamNonBlocking);
  stream_ = Stream(stream);
  compute_done_ = make_event();
  void* word = nullptr;
  VBON_CUDA_CALL(cudaMalloc, &word, sizeof(std::int32_t));
  barrier_word_ = decltype(barrier_word_)(word);
  VBON_CUDA_CALL(cudaMemset, word, 0, sizeof(std::int32_t));

  ncclUniqueId id = {};
  if (rank() == 0) VBON_NCCL_CALL(ncclGetUniqueId, &id);
  host_->broadcast(std::span<std::byte>(reinterpret_cast<std::byte*>(&id), sizeof(id)), 0, "NCCL's id");
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t comm = nullptr;
  VBON_NCCL_CALL(ncclCommInitRankConfig, &comm, size(), id, rank(), &config);
  comm_ = NcclComm(comm);
  CommReady ready(comm, fmt::format("the making of NCCL group '{}'", this->group().name()));
  this->group().waiter().wait(ready);
}

void NcclCollectives::follow_compute_stream() {
  const auto compute = options_.compute_stream ? static_cast<cudaStream_t>(options_.compute_stream()) : nullptr;
  VBON_CUDA_CALL(cudaEventRecord, compute_done_.get(), compute);
  VBON_CUDA_CALL(cudaStreamWaitEvent, stream_.get(), compute_done_.get(), 0);
}

// Inside a group, calls on a nonblocking communicator are only noted.
void NcclCollectives::enqueue(const Call& call) {
  const auto count = static_cast<std::size_t>(call.in.count);
  const ncclDataType_t type = nccl_type(call.in.type);
  VBON_NCCL_CALL(ncclGroupStart);
  switch (call.operation) {
    case Operation::all_reduce:
      VBON_NCCL_CALL(ncclAllReduce, call.in.data, call.out.data, count, type, nccl_op(call.reduction), comm_.get(),
                     stream_.get());
      break;
    case Operation::broadcast:
      VBON_NCCL_CALL(ncclBroadcast, call.in.data, call.out.data, count, type, call.root, comm_.get(), stream_.get());
      break;
    case Operation::all_gather:
      VBON_NCCL_CALL(ncclAllGather, call.in.data, call.out.data, count, type, comm_.get(), stream_.get());
      break;
    case Operation::all_gather_v: {
      std::int64_t begin = 0;
      for (int r = 0; r < size(); ++r) {
        const std::int64_t part = call.counts[static_cast<std::size_t>(r)];
        std::byte* place = call.out.data + begin * static_cast<std::int64_t>(size_of(call.out.type));
        VBON_NCCL_CALL(ncclBroadcast, r == rank() ? call.in.data : place, place, static_cast<std::size_t>(part), type,
                       r, comm_.get(), stream_.get());
        begin += part;
      }
      break;
    }
    case Operation::reduce_scatter:
      VBON_NCCL_CALL(ncclReduceScatter, call.in.data, call.out.data, static_cast<std::size_t>(call.out.count), type,
                     nccl_op(call.reduction), comm_.get(), stream_.get());
      break;
    case Operation::barrier:
      VBON_NCCL_CALL(ncclAllReduce, barrier_word_.get(), barrier_word_.get(), 1, ncclInt32, ncclSum, comm_.get(),
                     stream_.get());
      break;
  }
  VBON_NCCL_CALL(ncclGroupEnd);
}

void NcclCollectives::copy_to_host(std::span<const std::byte> from, std::span<std::byte> to) {
  check(from.size() == to.size(), "as much is copied as there is room for");
  follow_compute_stream();
  VBON_CUDA_CALL(cudaMemcpyAsync, to.data(), from.data(), from.size(), cudaMemcpyDeviceToHost, stream_.get());
  VBON_CUDA_CALL(cudaStreamSynchronize, stream_.get());
}

Pending NcclCollectives::start(const Call& call) {
  ++number_;
  const std::string title = fmt::format("{} #{}{} of NCCL group '{}'", name_of(call.operation), number_,
                                        call.what.empty() ? "" : fmt::format(" '{}'", call.what), group().name());
  if (options_.checks)  // the host collectives compare this text across ranks
    host_->barrier(
        fmt::format("{} #{} {} {}", name_of(call.operation), number_, call.out.count, name_of(call.in.type)));
  follow_compute_stream();
  enqueue(call);
  // A nonblocking communicator may still be enqueuing; the end can be recorded only behind that.
  CommReady enqueued(comm_.get(), title);
  group().waiter().wait(enqueued);
  Event end = make_event();
  VBON_CUDA_CALL(cudaEventRecord, end.get(), stream_.get());
  return Pending(std::make_unique<NcclOperation>(comm_.get(), std::move(end), title), group().waiter());
}

}  // namespace

std::unique_ptr<Collectives> make_nccl_collectives(Communicator group, CollectivesOptions options) {
  return std::make_unique<NcclCollectives>(std::move(group), std::move(options));
}

}  // namespace vbon::comm
