// One update of an offline method: groups of pool samples, each of one prompt, and a loss on their log-probabilities.
// Nothing is sampled. A method says which samples an update takes and what the loss of a group is (pool_losses.hpp);
// running the policy, the sum over learners and the optimiser are the same for all.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "vbon/train/learner.hpp"

namespace vbon {

// Samples are named by row * M + m throughout.
class PoolLoss {
 public:
  struct Grouping {
    std::int64_t samples = 1;    // of a group: what the loss needs together, so it stays on one rank
    std::int64_t an_epoch = 0;   // groups
    std::int64_t an_update = 0;  // groups, at most an_epoch; what fills no update waits for another epoch's order
  };
  struct Sample {
    std::int64_t index = 0;
    std::span<const float> logp;  // of its tokens under the policy
    std::span<float> slope;       // out: d loss / d logp of each token; zeros before
  };
  // A figure that an update reports: a mean over whatever the loss counts, summed over learners.
  struct Mean {
    double sum = 0, count = 0;
    void add(double value, double weight = 1) { sum += weight * value, count += weight; }
  };

  explicit PoolLoss(Grouping grouping) : grouping_(grouping) {}
  PoolLoss(const PoolLoss&) = delete;
  virtual ~PoolLoss() = default;

  const Grouping& grouping() const { return grouping_; }
  std::int64_t samples_an_update() const { return grouping_.samples * grouping_.an_update; }
  // Samples of an update, group after group, prompt after prompt; the same on every rank.
  std::span<const std::int64_t> members(std::int64_t update);

  // The loss of one group, times `share` (one over the groups of the update), in slopes and figures.
  virtual void add(std::span<const Sample> group, double share, std::span<Mean> figures) const = 0;
  virtual std::span<const std::string_view> figure_names() const = 0;

 protected:
  // The samples of an epoch, group after group, in keyed order.
  virtual std::vector<std::int64_t> deal(std::int64_t epoch) const = 0;

 private:
  Grouping grouping_;
  std::int64_t dealt_epoch_ = -1;
  std::vector<std::int64_t> dealt_;
};

// Collective over learners. `optimizer`: rates of these updates. Metrics: the loss's figures, loss gradient norm,
// learning rate and mean length. UserError (with prompts) when the gradient stops being finite.
Metrics pool_step(LearnerState& state, const LearnerTools& tools, const Pool& pool, PoolLoss& loss,
                  const OptimizerConfig& optimizer, std::int64_t update, std::int64_t total_updates);

}  // namespace vbon
