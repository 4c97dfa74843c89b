// Several learners as one: against one learner that computes everything, against each other bit by bit, whatever the
// buckets, the sharding and the number of learners.
#include "vbon/train/data_parallel.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "support/world.hpp"
#include "vbon/base/rng.hpp"
#include "vbon/comm/agree.hpp"

namespace vbon {
namespace {

constexpr std::int64_t kItems = 24;
constexpr double kSmallBucket = 0.0625;  // MiB: one block

// Three tensors over several blocks, and one that no loss touches. Item i pulls a random part of them to where it wants
// them; the loss is the mean over items.
class Problem {
 public:
  Problem(comm::Collectives& learners, const DataParallelOptions& options, std::uint64_t seed = 5)
      : parallel_options_(options) {
    std::uint64_t key = seed;
    for (at::Tensor* t : {&a_, &b_, &c_, &unused_}) fill(*t, key++);
    flat_ = FlatParameters({{"unused", &unused_}, {"a", &a_}, {"b", &b_}, {"c", &c_}}, FlatParameters::Gradients::kept,
                           DataParallel::multiple(options, learners.size()));
    parallel_ = std::make_unique<DataParallel>(
        flat_, OptimizerConfig{.learning_rate = 1, .weight_decay = 0.01, .clip_norm = 0.05}, learners, options);
  }

  // One update on all items; `micro` at a time. Returns the norm of the gradient.
  double update(std::int64_t number, std::int64_t micro = 2) {
    const std::vector<Share> shares = parallel_->shares(kItems);
    std::vector<double> rows;
    for (std::size_t k = 0; k < shares.size(); ++k) {
      double sum = 0;
      for (std::int64_t first = shares[k].begin; first < shares[k].end; first += micro) {
        const std::int64_t last = std::min(first + micro, shares[k].end);
        at::Tensor loss = at::zeros({}, at::kFloat);
        for (std::int64_t i = first; i < last; ++i) loss = loss + loss_of(i, number);
        if (k + 1 == shares.size() && last == shares[k].end) parallel_->last_backward();
        (loss / kItems).backward();
        sum += loss.item<double>();
      }
      parallel_->end_part();
      rows.push_back(sum);
    }
    const double norm = parallel_->reduce();
    parallel_->apply(0.01);
    loss_ = parallel_->sum_of_parts(rows, 1, "loss").front() / kItems;
    return norm;
  }

  at::Tensor values() const { return flat_.values().detach().clone(); }
  const at::Tensor& untouched() const { return unused_; }
  double loss() const { return loss_; }
  DataParallel& parallel() { return *parallel_; }
  const FlatParameters& flat() const { return flat_; }

 private:
  static void fill(const at::Tensor& t, std::uint64_t key) {
    const RandomStream stream(key, Purpose::initialise);
    float* values = t.mutable_data_ptr<float>();
    for (std::int64_t i = 0; i < t.numel(); ++i) values[i] = static_cast<float>(stream.normal(i));
  }
  at::Tensor loss_of(std::int64_t item, std::int64_t update) const {
    const RandomStream stream(77, Purpose::subset, static_cast<std::uint64_t>(update), item);
    const double x = stream.normal(0), y = stream.normal(1), z = stream.normal(2);
    return ((a_ * x - b_.narrow(0, 0, a_.numel())) * (a_ + y)).mean() + (b_ - z).square().mean() * x * x +
           (c_ * a_.narrow(0, 0, c_.numel()) * y).sum();
  }

  DataParallelOptions parallel_options_;
  at::Tensor a_ = at::zeros({30000}, at::kFloat), b_ = at::zeros({70001}, at::kFloat), c_ = at::zeros({9}, at::kFloat),
             unused_ = at::zeros({20000}, at::kFloat);
  FlatParameters flat_;
  std::unique_ptr<DataParallel> parallel_;
  double loss_ = 0;
};

class DataParallelTest : public testing::Test {
 protected:
  static at::Tensor trained(comm::Collectives& learners, const DataParallelOptions& options, std::int64_t micro = 2) {
    Problem problem(learners, options);
    for (std::int64_t u = 0; u < 4; ++u) problem.update(u, micro);
    return problem.values();
  }
  static double difference(const at::Tensor& a, const at::Tensor& b) {
    return (a - b).abs().max().item<double>() / b.abs().max().item<double>();
  }
  std::unique_ptr<comm::Collectives> group_ = comm::make_collectives(test::world().dup("test"), comm::Backend::host);
  comm::LocalCollectives alone_;
};

TEST_F(DataParallelTest, learners_together_are_one_learner_whatever_the_micro_batches) {
  const at::Tensor want = trained(alone_, {}, kItems);
  for (const std::int64_t micro : {1, 3, 24}) EXPECT_LE(difference(trained(*group_, {}, micro), want), 1e-6) << micro;
}

TEST_F(DataParallelTest, buckets_and_shards_change_no_bit) {
  const at::Tensor want = trained(*group_, {.bucket_mib = 25});
  for (const bool sharded : {false, true})
    for (const double bucket : {1e-9, kSmallBucket, 0.2, 25.0})
      EXPECT_TRUE(trained(*group_, {.bucket_mib = bucket, .sharded = sharded}).equal(want))
          << bucket << " MiB, sharded " << sharded;
}

TEST_F(DataParallelTest, fixed_gives_one_learners_bits) {
  if (group_->size() == 3) return;  // refused, see below
  const at::Tensor want = trained(alone_, {.fixed = true});
  EXPECT_TRUE(trained(*group_, {.fixed = true}).equal(want));
  EXPECT_TRUE(trained(*group_, {.sharded = true, .fixed = true}).equal(want));
  EXPECT_LE(difference(want, trained(alone_, {})), 1e-6);
  Problem one(alone_, {.fixed = true}), several(*group_, {.fixed = true});
  for (std::int64_t u = 0; u < 2; ++u) EXPECT_EQ(one.update(u), several.update(u));
  EXPECT_EQ(one.loss(), several.loss());
}

TEST_F(DataParallelTest, every_learner_has_the_same_bits_and_what_no_loss_touches_only_decays) {
  for (const bool sharded : {false, true}) {
    Problem problem(*group_, {.bucket_mib = kSmallBucket, .sharded = sharded});
    const at::Tensor before = problem.untouched().detach().clone();
    const double norm = problem.update(0);
    EXPECT_GT(norm, 0.05) << "clipping has something to do";
    EXPECT_LE(difference(problem.untouched().detach(), before * (1 - 0.01 * 0.01)), 1e-6);
    at::Tensor values = problem.values();
    const std::span<float> mine(values.mutable_data_ptr<float>(), static_cast<std::size_t>(values.numel()));
    std::vector<float> of_root(mine.begin(), mine.end());
    group_->broadcast(std::span(of_root), 0, "root's");
    EXPECT_TRUE(std::equal(mine.begin(), mine.end(), of_root.begin()));
    EXPECT_EQ(problem.flat().padded_gradients().abs().max().item<float>(), 0);
  }
}

TEST_F(DataParallelTest, buckets_leave_while_backward_runs) {
  Problem problem(*group_, {.bucket_mib = kSmallBucket});
  problem.update(0);
  // The parameter without a gradient holds the two buckets that it lies in.
  EXPECT_EQ(problem.parallel().num_buckets(), 8);
  EXPECT_EQ(problem.parallel().num_overlapped(), group_->size() > 1 ? 6 : 0);
}

TEST_F(DataParallelTest, a_learner_without_items_takes_part) {
  // As many learners as there are, but only the last has an item.
  for (const bool sharded : {false, true}) {
    Problem problem(*group_, {.bucket_mib = kSmallBucket, .sharded = sharded});
    const bool works = group_->rank() == group_->size() - 1;
    if (works) {
      problem.parallel().last_backward();
      (problem.flat().pieces()[1] * 2.0f).sum().backward();
    }
    problem.parallel().end_part();
    EXPECT_NEAR(problem.parallel().reduce(), 2 * std::sqrt(30000.0), 1e-3);
    problem.parallel().apply(0.01);
  }
}

TEST_F(DataParallelTest, moments_are_whole_and_go_on_in_another_arrangement) {
  Problem straight(*group_, {});
  for (std::int64_t u = 0; u < 6; ++u) straight.update(u);
  for (const bool sharded : {false, true}) {
    Problem first(*group_, {.bucket_mib = kSmallBucket, .sharded = sharded}),
        second(*group_, {.bucket_mib = 0.2, .sharded = !sharded});
    for (std::int64_t u = 0; u < 3; ++u) first.update(u);
    const auto [m, v] = first.parallel().moments();
    EXPECT_EQ(m.numel(), first.flat().size());
    {
      const at::NoGradGuard no_grad;
      for (std::size_t i = 0; i < first.flat().pieces().size(); ++i)
        second.flat().pieces()[i].detach().copy_(first.flat().pieces()[i]);
    }
    second.parallel().restore(m, v, first.parallel().optimizer().num_steps());
    for (std::int64_t u = 3; u < 6; ++u) second.update(u);
    EXPECT_TRUE(second.values().equal(straight.values())) << sharded;
    // A share of the state each.
    const std::int64_t kept = (sharded ? first : second).parallel().optimizer().first_moment().numel();
    EXPECT_EQ(kept * group_->size(), (sharded ? first : second).flat().padded_values().numel());
  }
}

TEST_F(DataParallelTest, what_cannot_be_is_refused) {
  if (group_->size() == 1 || group_->size() == 2 || group_->size() == 4) return;
  EXPECT_THROW(Problem(*group_, {.fixed = true}), UserError);
}

TEST_F(DataParallelTest, a_gradient_after_its_bucket_left_is_our_bug) {
  if (group_->size() == 1) return;
  Problem problem(*group_, {.bucket_mib = kSmallBucket});
  problem.parallel().last_backward();
  const at::Tensor &b = problem.flat().pieces()[2], &c = problem.flat().pieces()[3];
  (b.sum() + c.sum()).backward();  // their buckets leave
  EXPECT_THROW(c.sum().backward(), InternalError);
  problem.parallel().reduce();
}

}  // namespace
}  // namespace vbon
