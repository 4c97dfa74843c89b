// Every operation of NCCL on every type against the same oracle as the host's backends (collectives_test.cpp), on
// device memory, in place and out of it, at ragged and empty sizes. A device a rank; skipped where there are fewer.
//
// NCCL adds in an order of its own: sums of floats are compared within what their rounding allows, all else exactly.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "support/collective_oracle.hpp"
#include "support/world.hpp"
#include "vbon/comm/collectives.hpp"
#include "vbon/comm/doctor.hpp"
#include "vbon/comm/publish.hpp"

namespace vbon::comm {
namespace {

using namespace oracle;

void ok(cudaError_t code) {
  if (code != cudaSuccess) throw std::runtime_error(cudaGetErrorString(code));
}

// Values on this rank's device.
template <class T>
class OnDevice {
 public:
  explicit OnDevice(const std::vector<T>& values) : size_(values.size()) {
    ok(cudaMalloc(&data_, std::max<std::size_t>(size_, 1) * sizeof(T)));
    if (size_ > 0) ok(cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  explicit OnDevice(std::size_t size) : OnDevice(std::vector<T>(size)) {}
  OnDevice(const OnDevice&) = delete;
  ~OnDevice() { cudaFree(data_); }

  std::span<T> span() const { return {static_cast<T*>(data_), size_}; }
  std::span<const T> in() const { return span(); }
  std::vector<T> values() const { return copy(span()); }
  static std::vector<T> copy(std::span<const T> device) {
    std::vector<T> host(device.size());
    if (!device.empty()) ok(cudaMemcpy(host.data(), device.data(), device.size_bytes(), cudaMemcpyDeviceToHost));
    return host;
  }

 private:
  std::size_t size_;
  void* data_ = nullptr;
};

template <class T>
double as_double(T value) {
  if constexpr (std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>) return to_float(value);
  else return static_cast<double>(value);
}

template <class T>
constexpr double kRounding = std::is_same_v<T, double>    ? 0x1p-52
                             : std::is_same_v<T, float>   ? 0x1p-23
                             : std::is_same_v<T, Float16> ? 0x1p-10
                                                          : 0x1p-7;  // of bfloat16

template <class T>
void expect_reduced(const std::vector<T>& got, const std::vector<T>& want, Reduction op, int ranks) {
  if (op != Reduction::sum || std::is_integral_v<T> || ranks <= 2) {  // a sum of two has one order
    EXPECT_EQ(got, want);
    return;
  }
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(as_double(got[i]), as_double(want[i]), ranks * kRounding<T> * (ranks + std::abs(as_double(want[i]))));
}

// Ranks of one node, and a device for each.
bool has_devices() {
  const Communicator& world = test::world();
  return world.num_nodes() == 1 && static_cast<int>(cuda_facts().devices.size()) >= world.size();
}

template <class T>
class NcclOf : public testing::Test {
 protected:
  void SetUp() override {
    if (!has_devices()) GTEST_SKIP() << "needs " << test::world().size() << " CUDA device(s)";
    rank = test::world().rank();
    size = test::world().size();
    ok(cudaSetDevice(rank));
    all = make_collectives(test::world().dup("nccl"), Backend::nccl, {.device = rank});
  }
  std::unique_ptr<Collectives> all;
  int rank = 0, size = 1;
};
TYPED_TEST_SUITE(NcclOf, ElementTypes);

TYPED_TEST(NcclOf, all_reduce) {
  using T = TypeParam;
  for (const std::int64_t count : kSizes)
    for (const Reduction op : kReductions) {
      SCOPED_TRACE(std::to_string(count) + " " + std::string(name_of(op)));
      const std::vector<T> want = reduced<T>(this->size, count, op);
      const OnDevice<T> in(values_of<T>(this->rank, count)), out(want.size());
      this->all->all_reduce(in.in(), out.span(), op, "out of place");
      expect_reduced(out.values(), want, op, this->size);
      EXPECT_EQ(in.values(), values_of<T>(this->rank, count)) << "the input stays as it was";
      this->all->all_reduce(in.span(), op, "in place");
      expect_reduced(in.values(), want, op, this->size);
    }
}

TYPED_TEST(NcclOf, reduce_scatter) {
  using T = TypeParam;
  for (const std::int64_t part : kSizes)
    for (const Reduction op : kReductions) {
      const std::vector<T> want = reduced<T>(this->size, part, op, this->rank * part);
      const OnDevice<T> in(values_of<T>(this->rank, part * this->size)), out(want.size());
      this->all->reduce_scatter(in.in(), out.span(), op);
      expect_reduced(out.values(), want, op, this->size);
      expect_reduced(OnDevice<T>::copy(this->all->reduce_scatter(in.span(), op)), want, op, this->size);
    }
}

TYPED_TEST(NcclOf, broadcast_from_every_root) {
  using T = TypeParam;
  for (const std::int64_t count : kSizes)
    for (int root = 0; root < this->size; ++root) {
      const OnDevice<T> values(values_of<T>(this->rank, count));
      this->all->broadcast(values.span(), root, "values");
      EXPECT_EQ(values.values(), values_of<T>(root, count)) << count << " from " << root;
    }
}

TYPED_TEST(NcclOf, all_gather) {
  using T = TypeParam;
  for (const std::int64_t part : kSizes) {
    std::vector<T> want;
    for (int r = 0; r < this->size; ++r)
      for (const T& value : values_of<T>(r, part)) want.push_back(value);
    const OnDevice<T> mine(values_of<T>(this->rank, part)), out(want.size());
    this->all->all_gather(mine.in(), out.span());
    EXPECT_EQ(out.values(), want) << part;
  }
}

TYPED_TEST(NcclOf, all_gather_v_of_ragged_and_empty_parts) {
  using T = TypeParam;
  for (const int empty : {-1, 0, this->size - 1}) {  // the rank that gives nothing; -1: each gives something
    std::vector<std::int64_t> counts;
    std::vector<T> want;
    for (int r = 0; r < this->size; ++r) {
      counts.push_back(r == empty ? 0 : 997 * r + 3);
      for (const T& value : values_of<T>(r, counts.back())) want.push_back(value);
    }
    const OnDevice<T> mine(values_of<T>(this->rank, counts[static_cast<std::size_t>(this->rank)])), out(want.size());
    this->all->all_gather_v(mine.in(), out.span(), std::span<const std::int64_t>(counts), "ragged");
    EXPECT_EQ(out.values(), want);
  }
}

TYPED_TEST(NcclOf, many_pending_sums) {
  using T = TypeParam;
  std::vector<std::unique_ptr<OnDevice<T>>> buckets;
  std::vector<Pending> pending;
  for (int b = 0; b < 8; ++b) {
    buckets.push_back(std::make_unique<OnDevice<T>>(values_of<T>(this->rank, 3000, 5000 * b)));
    pending.push_back(this->all->all_reduce_start(buckets.back()->span(), Reduction::sum, "bucket"));
  }
  for (std::size_t b = 8; b-- > 0;) pending[b].wait();
  for (int b = 0; b < 8; ++b)
    expect_reduced(buckets[static_cast<std::size_t>(b)]->values(),
                   reduced<T>(this->size, 3000, Reduction::sum, 5000 * b), Reduction::sum, this->size);
}

TYPED_TEST(NcclOf, published_buffers_arrive_whole_with_their_version) {
  using T = TypeParam;
  for (const std::int64_t count : {0, 1, 3'000'001}) {
    const OnDevice<T> values(values_of<T>(this->rank, count));
    const auto bytes = std::as_writable_bytes(values.span());
    EXPECT_EQ(publish(*this->all, bytes, this->rank == 0 ? 42 : -1, 0, "weights"), 42);
    EXPECT_EQ(values.values(), values_of<T>(0, count));
    std::vector<T> copied(values.span().size());
    this->all->copy_to_host(bytes, std::as_writable_bytes(std::span(copied)));
    EXPECT_EQ(copied, values.values());
  }
}

}  // namespace
}  // namespace vbon::comm
