#include "vbon/train/data_parallel.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <bit>

#include "vbon/base/error.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

std::span<float> floats(const at::Tensor& buffer, Range range) {
  return {buffer.mutable_data_ptr<float>() + range.begin, idx(range.size)};
}

// From the end of the buffer to its beginning, `size` floats each; the last one has what is left.
std::vector<Range> cut_from_the_end(std::int64_t total, std::int64_t size) {
  std::vector<Range> ranges;
  for (std::int64_t end = total; end > 0; end -= size) {
    const std::int64_t begin = std::max<std::int64_t>(end - size, 0);
    ranges.push_back({begin, end - begin});
  }
  return ranges;
}

constexpr std::int64_t kFoldPiece = std::int64_t{1} << 20;  // floats of every learner that are in memory at once

}  // namespace

Share share_of(std::int64_t n, std::int64_t part, std::int64_t num_parts) {
  return {n * part / num_parts, n * (part + 1) / num_parts};
}

std::vector<Share> shares_of(std::int64_t n, int rank, int ranks, bool fixed) {
  const std::int64_t num_parts = DataParallel::num_parts_of(ranks, fixed);
  const Share parts = share_of(num_parts, rank, ranks);
  std::vector<Share> mine;
  for (std::int64_t part = parts.begin; part < parts.end; ++part) mine.push_back(share_of(n, part, num_parts));
  return mine;
}

DataParallel::DataParallel(FlatParameters& parameters, const OptimizerConfig& config, comm::Collectives& learners,
                           const DataParallelOptions& options)
    : parameters_(parameters), config_(config), learners_(learners), options_(options) {
  const std::int64_t total = parameters.padded_values().numel(), unit = multiple(options, learners.size());
  check(total % unit == 0, "a buffer that can be cut among the learners");
  require(
      !options.fixed || (std::has_single_bit(static_cast<unsigned>(learners.size())) && learners.size() <= kFixedParts),
      "run.reduce: fixed needs 1, 2, 4 or {} learners, not {}", kFixedParts, learners.size());
  const auto wanted = static_cast<std::int64_t>(options.bucket_mib * 1048576.0 / sizeof(float));
  for (const Range& range : cut_from_the_end(total, std::max<std::int64_t>(wanted / unit, 1) * unit))
    buckets_.push_back({.range = range});
  optimizer_ = AdamW(parameters, config, slices());
  buckets_of_.resize(parameters.pieces().size());
  if (!overlaps()) return;
  for (std::size_t p = 0; p < buckets_of_.size(); ++p) {
    const std::int64_t begin = parameters.offset_of(p), end = begin + parameters.pieces()[p].numel();
    for (std::size_t b = 0; b < buckets_.size(); ++b)
      if (begin < buckets_[b].range.begin + buckets_[b].range.size && buckets_[b].range.begin < end)
        buckets_of_[p].push_back(b);
  }
  parameters.listen([this](std::size_t piece) { arrived(piece); });
}

DataParallel::~DataParallel() { parameters_.listen({}); }

std::vector<Range> DataParallel::slices() const {
  if (!options_.sharded || learners_.size() == 1) return {};
  std::vector<Range> mine;
  for (const Bucket& bucket : buckets_) {
    const std::int64_t part = bucket.range.size / learners_.size();
    mine.push_back({bucket.range.begin + learners_.rank() * part, part});
  }
  return mine;
}

std::vector<Share> DataParallel::shares(std::int64_t n) const {
  return shares_of(n, learners_.rank(), learners_.size(), options_.fixed);
}

void DataParallel::last_backward() {
  if (!overlaps()) return;
  check(!armed_ && next_ == 0, "last_backward: one an update");
  armed_ = true;
  for (Bucket& bucket : buckets_) bucket.waiting = 0;
  for (const std::vector<std::size_t>& of_parameter : buckets_of_)
    for (const std::size_t b : of_parameter) ++buckets_[b].waiting;
}

// Buckets leave in one order on all learners, whatever order gradients come in; a parameter that gets none in this pass
// holds its bucket, and those after it, until finish().
void DataParallel::arrived(std::size_t parameter) {
  if (!armed_) return;
  for (const std::size_t b : buckets_of_[parameter]) {
    check(b >= next_ && buckets_[b].waiting > 0, "a gradient that grows after its bucket has left");
    --buckets_[b].waiting;
  }
  while (next_ < buckets_.size() && buckets_[next_].waiting == 0) {
    launch();
    ++overlapped_;
  }
  learners_.group().waiter().advance();
}

void DataParallel::launch() {
  const std::span<float> bucket = floats(parameters_.padded_gradients(), buckets_[next_++].range);
  pending_.push_back(options_.sharded ? learners_.reduce_scatter_start(bucket, comm::Reduction::sum, "gradients")
                                      : learners_.all_reduce_start(bucket, comm::Reduction::sum, "gradients"));
}

void DataParallel::finish() {
  armed_ = false;
  if (learners_.size() > 1)
    while (next_ < buckets_.size()) launch();
  for (comm::Pending& bucket : pending_) bucket.wait();
  pending_.clear();
  next_ = 0;
}

void DataParallel::end_part() {
  if (!options_.fixed) return;
  fold(parameters_.padded_gradients().clone());
  parameters_.zero_gradients();
}

// A binary counter: two sums of 2^level parts become one of 2^(level + 1).
void DataParallel::fold(at::Tensor gradient) {
  std::int64_t level = 0;
  while (!tree_.empty() && tree_.back().first == level) {
    gradient = tree_.back().second.add_(gradient);
    tree_.pop_back();
    ++level;
  }
  tree_.emplace_back(level, std::move(gradient));
}

// The upper levels of the tree, over learners: everyone gathers a piece from all and sums it in the tree's order.
void DataParallel::fold_learners() {
  check(tree_.size() == 1, "every part has ended");
  const at::Tensor mine = std::move(tree_.back().second);
  tree_.clear();
  at::Tensor sum = parameters_.padded_gradients();
  const std::int64_t learners = learners_.size(), total = sum.numel();
  const at::Tensor gathered = at::empty({learners * std::min(kFoldPiece, total)}, sum.options());
  for (std::int64_t begin = 0; begin < total; begin += kFoldPiece) {
    const std::int64_t size = std::min(kFoldPiece, total - begin);
    learners_.all_gather(std::span<const float>(floats(mine, {begin, size})), floats(gathered, {0, learners * size}),
                         "gradients");
    for (std::int64_t stride = 1; stride < learners; stride *= 2)
      for (std::int64_t r = 0; r < learners; r += 2 * stride)
        gathered.narrow(0, r * size, size).add_(gathered.narrow(0, (r + stride) * size, size));
    sum.narrow(0, begin, size).copy_(gathered.narrow(0, 0, size));
  }
}

double DataParallel::reduce() {
  const at::NoGradGuard no_grad;
  if (options_.fixed) fold_learners();
  else finish();
  std::vector<double> squares = optimizer_.squares();
  if (!slices().empty()) {
    // By learner, each its slices bucket after bucket -> bucket after bucket, each its learners; from the buffer's
    // start.
    const std::vector<double> all = learners_.host().all_gather_v(std::span<const double>(squares), "norm").values;
    std::vector<double> ordered(all.size());
    const auto ranks = static_cast<std::int64_t>(learners_.size());
    std::int64_t before = 0;  // blocks of a learner's slices of earlier buckets
    for (const Bucket& bucket : buckets_) {
      const std::int64_t part = bucket.range.size / ranks / kFlatBlock;
      for (std::int64_t r = 0; r < ranks; ++r)
        std::copy_n(all.begin() + r * std::ssize(squares) + before, part,
                    ordered.begin() + bucket.range.begin / kFlatBlock + r * part);
      before += part;
    }
    squares = std::move(ordered);
  }
  const double norm = norm_of(squares);
  optimizer_.clip(norm);
  return norm;
}

void DataParallel::apply(double learning_rate) {
  const at::NoGradGuard no_grad;
  optimizer_.step(learning_rate);
  if (!slices().empty())
    for (const Bucket& bucket : buckets_)
      learners_.all_gather(floats(parameters_.padded_values(), bucket.range), "parameters");
  parameters_.refresh();
  parameters_.zero_gradients();
}

// [padded] from every learner's slices.
at::Tensor DataParallel::whole(const at::Tensor& of_slices) {
  const std::vector<Range> mine = slices();
  if (mine.empty()) return of_slices;
  at::Tensor all = at::empty_like(parameters_.padded_values());
  std::int64_t at = 0;
  for (std::size_t b = 0; b < mine.size(); ++b) {
    all.narrow(0, mine[b].begin, mine[b].size).copy_(of_slices.narrow(0, at, mine[b].size));
    at += mine[b].size;
    learners_.all_gather(floats(all, buckets_[b].range), "optimiser state");
  }
  return all;
}

std::pair<at::Tensor, at::Tensor> DataParallel::moments() {
  const at::NoGradGuard no_grad;
  const auto of = [&](const at::Tensor& slices) { return whole(slices).narrow(0, 0, parameters_.size()).cpu(); };
  at::Tensor first = of(optimizer_.first_moment());
  return {std::move(first), of(optimizer_.second_moment())};
}

void DataParallel::restore(const at::Tensor& first, const at::Tensor& second, std::int64_t num_steps) {
  const at::NoGradGuard no_grad;
  check(first.numel() == parameters_.size() && second.numel() == parameters_.size(),
        "optimiser state has another size");
  const auto of_slices = [&](const at::Tensor& all) {
    at::Tensor padded = at::zeros({parameters_.padded_values().numel()}, at::kFloat);
    padded.narrow(0, 0, all.numel()).copy_(all);
    const std::vector<Range> mine = slices();
    if (mine.empty()) return padded;
    std::vector<at::Tensor> parts;
    for (const Range& slice : mine) parts.push_back(padded.narrow(0, slice.begin, slice.size));
    return at::cat(parts);
  };
  optimizer_.restore(of_slices(first), of_slices(second), num_steps);
}

std::vector<double> DataParallel::sum_of_parts(std::span<const double> rows, std::size_t width, std::string_view what) {
  check(rows.size() == idx(parts().size()) * width, "sum_of_parts: a row a part");
  std::vector<double> all = learners_.host().all_gather_v(rows, what).values;
  const std::size_t count = all.size() / width;
  const auto add = [&](std::size_t to, std::size_t from) {
    for (std::size_t k = 0; k < width; ++k) all[to * width + k] += all[from * width + k];
  };
  if (options_.fixed) {
    for (std::size_t stride = 1; stride < count; stride *= 2)
      for (std::size_t part = 0; part < count; part += 2 * stride) add(part, part + stride);
  } else {
    for (std::size_t part = 1; part < count; ++part) add(0, part);
  }
  all.resize(width);
  return all;
}

}  // namespace vbon
