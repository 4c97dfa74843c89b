// One optimiser over several learners: each computes the gradient of its part of a batch, the parts are summed,
// everybody has the new parameters.
//
// The flat buffer is cut into buckets from its end, which is where backward begins: while backward computes the
// gradients of earlier layers, the buckets of later ones are already on their way. Three ways to sum, one result:
//   plain     all-reduce; every learner holds AdamW's whole state.
//   sharded   reduce-scatter, each learner updates its slice of every bucket, all-gather (ZeRO-1, Rajbhandari et al.
//             2020): 1/size of the state each. The host backends give the same bits as plain.
//   fixed     the batch is cut into kFixedParts whatever the number of learners (1, 2, 4 or 8), and the parts'
//   gradients
//             are summed as one binary tree: the same bits for each of these numbers. Costs log2(kFixedParts) buffers
//             and the traffic of an all-gather, and nothing overlaps.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "vbon/comm/collectives.hpp"
#include "vbon/train/optimizer.hpp"
#include "vbon/train/trainable.hpp"

namespace vbon {

// A contiguous part of n items.
struct Share {
  std::int64_t begin = 0, end = 0;
  std::int64_t size() const { return end - begin; }
};
Share share_of(std::int64_t n, std::int64_t part, std::int64_t num_parts);
// Of n items the parts of one of `ranks`, contiguous: one a rank, or, if fixed, those of DataParallel::kFixedParts.
std::vector<Share> shares_of(std::int64_t n, int rank, int ranks, bool fixed);

struct DataParallelOptions {
  double bucket_mib = 25;
  bool sharded = false;
  bool fixed = false;
};

class DataParallel {
 public:
  static constexpr std::int64_t kFixedParts = 8;

  // Of the flat buffer's length, so that it can be cut among `ranks` (FlatParameters' `multiple`).
  static std::int64_t multiple(const DataParallelOptions& options, int ranks) {
    return options.sharded ? kFlatBlock * ranks : kFlatBlock;
  }

  // All of them outlive this; `parameters` must not move. UserError where `fixed` meets another number of learners.
  DataParallel(FlatParameters& parameters, const OptimizerConfig& config, comm::Collectives& learners,
               const DataParallelOptions& options = {});
  ~DataParallel();
  DataParallel(const DataParallel&) = delete;
  DataParallel& operator=(const DataParallel&) = delete;

  comm::Collectives& learners() const { return learners_; }
  bool is_fixed() const { return options_.fixed; }

  // A batch has num_parts() contiguous parts (share_of); this learner computes those of parts(), one after the other,
  // and calls end_part() after each.
  std::int64_t num_parts() const { return num_parts_of(learners_.size(), options_.fixed); }
  static std::int64_t num_parts_of(int ranks, bool fixed) { return fixed ? kFixedParts : ranks; }
  Share parts() const { return share_of(num_parts(), learners_.rank(), learners_.size()); }
  std::vector<Share> shares(std::int64_t n) const;  // what this learner's parts are of n items; contiguous
  void end_part();
  // The next backward pass of this learner completes its gradients: buckets leave while it runs. Optional, and without
  // effect where nothing can overlap.
  void last_backward();

  // Collective. Sums what is not summed yet, clips it to the configuration's norm and returns the norm before, in
  // double.
  double reduce();
  // Collective. AdamW's step on the sum; gradients are zero afterwards.
  void apply(double learning_rate);

  AdamW& optimizer() { return optimizer_; }
  const AdamW& optimizer() const { return optimizer_; }
  // Whole moments [n] for checkpoints, in host memory. Collective where the state is sharded.
  std::pair<at::Tensor, at::Tensor> moments();
  void restore(const at::Tensor& first, const at::Tensor& second, std::int64_t num_steps);

  // Row by row, num_parts() rows of equal width: each learner brings the rows of its parts. All rows, summed as the
  // gradients are.
  std::vector<double> sum_of_parts(std::span<const double> rows, std::size_t width, std::string_view what);

  std::int64_t num_buckets() const { return static_cast<std::int64_t>(buckets_.size()); }
  // Buckets that left while a backward pass ran, so far.
  std::int64_t num_overlapped() const { return overlapped_; }

 private:
  struct Bucket {
    Range range;
    std::int64_t waiting = 0;  // parameters of it whose gradient this backward pass still owes
  };

  bool overlaps() const { return learners_.size() > 1 && !options_.fixed; }
  std::vector<Range> slices() const;  // of the padded buffer, whose state is kept here
  void arrived(std::size_t parameter);
  void launch();  // the next bucket
  void finish();
  void fold(at::Tensor gradient);
  void fold_learners();
  at::Tensor whole(const at::Tensor& of_slices);

  FlatParameters& parameters_;
  OptimizerConfig config_;
  comm::Collectives& learners_;
  DataParallelOptions options_;
  std::vector<Bucket> buckets_;                       // the last of the buffer first
  std::vector<std::vector<std::size_t>> buckets_of_;  // of each parameter
  std::vector<comm::Pending> pending_;
  std::size_t next_ = 0;  // bucket to leave
  bool armed_ = false;
  std::int64_t overlapped_ = 0;
  std::vector<std::pair<std::int64_t, at::Tensor>> tree_;  // fixed: (level, sum) of parts done, levels falling
  AdamW optimizer_;
  // X  // for hooks, which parameters may keep longer than this lives
};

}  // namespace vbon
