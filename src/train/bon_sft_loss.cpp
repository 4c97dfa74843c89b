// BoN-SFT: the forward KL from Best-of-N, E_bon[-log pi], with the pool in the place of Best-of-N's samples.
#include <algorithm>
#include <array>
#include <cmath>

#include "train/log_ratio.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/rng.hpp"
#include "vbon/objective/bon_curve.hpp"
#include "vbon/train/pool_losses.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

class BonSftLoss : public PoolLoss {
 public:
  // `samples`: those of an epoch where they are always the same, else empty; `weight`: of each sample of the pool.
  BonSftLoss(const Settings& settings, const Pool& pool, std::vector<std::int64_t> samples, std::vector<double> weight)
      : PoolLoss(grouping(settings, pool, std::ssize(samples))), seed_(static_cast<std::uint64_t>(*settings.run.seed)),
        n_(std::llround(target_n(settings.vbon))), pool_(pool), samples_(std::move(samples)),
        weight_(std::move(weight)) {}

  std::span<const std::string_view> figure_names() const override {
    static constexpr std::array<std::string_view, 2> kNames = {"loss", "log_ratio"};
    return kNames;
  }

  void add(std::span<const Sample> group, double share, std::span<Mean> figures) const override {
    const Sample& sample = group.front();
    const double weight = weight_[idx(sample.index)];
    figures[0].add(-response_logp(sample) * weight);
    figures[1].add(response_log_ratio(sample, pool_.block.samples), weight);
    std::fill(sample.slope.begin(), sample.slope.end(), static_cast<float>(-weight * share));
  }

 protected:
  std::vector<std::int64_t> deal(std::int64_t epoch) const override {
    std::vector<std::int64_t> dealt;
    for (const std::int64_t i :
         permutation(RandomStream(seed_, Purpose::data_order, 0, epoch), PoolLoss::grouping().an_epoch))
      dealt.push_back(samples_.empty() ? best_drawn(i, epoch) : samples_[idx(i)]);
    return dealt;
  }

 private:
  static Grouping grouping(const Settings& settings, const Pool& pool, std::int64_t samples) {
    const std::int64_t an_epoch = samples > 0 ? samples : pool.block.num_prompts();
    return {.samples = 1, .an_epoch = an_epoch, .an_update = std::min(settings.bon_sft.batch, an_epoch)};
  }

  // The best of a keyed subset of N, another one each epoch. Of equal rewards the first: their order is random.
  std::int64_t best_drawn(std::int64_t row, std::int64_t epoch) const {
    const std::span<const float> rewards = pool_.rewards_of(row);
    const std::vector<std::int64_t> order = permutation(RandomStream(seed_, Purpose::subset, 0, epoch),
                                                        std::ssize(rewards), static_cast<std::int32_t>(row));
    const auto best = std::max_element(order.begin(), order.begin() + n_, [&](std::int64_t a, std::int64_t b) {
      return rewards[idx(a)] < rewards[idx(b)];
    });
    return row * std::ssize(rewards) + *best;
  }

  std::uint64_t seed_;
  std::int64_t n_;
  const Pool& pool_;
  std::vector<std::int64_t> samples_;
  std::vector<double> weight_;
};

}  // namespace

std::unique_ptr<PoolLoss> make_bon_sft_loss(const Settings& settings, const Pool& pool) {
  const double n = target_n(settings.vbon);
  require(
      n <= static_cast<double>(pool.header.num_samples),
      "vbon.N is {}, but the pool has {} samples a prompt: method bon_sft takes the best of N of them; draw a larger "
      "pool or lower N",
      n, pool.header.num_samples);
  if (settings.bon_sft.best == BestOf::drawn)
    return std::make_unique<BonSftLoss>(settings, pool, std::vector<std::int64_t>{},
                                        std::vector<double>(pool.block.samples.logp_reference.size(), 1.0));
  // Every sample that can be the best of N, with the probability that it is, Rao-Blackwell over all subsets; an epoch
  // takes each once, so a weight stands against the mean one.
  std::vector<std::int64_t> samples;
  std::vector<double> weight;
  for (std::int64_t row = 0; row < pool.block.num_prompts(); ++row)
    for (const double w : bon_weights(pool.rewards_of(row), n)) {
      if (w > 0) samples.push_back(std::ssize(weight));
      weight.push_back(w);
    }
  for (double& w : weight) w *= static_cast<double>(samples.size()) / static_cast<double>(pool.block.num_prompts());
  return std::make_unique<BonSftLoss>(settings, pool, std::move(samples), std::move(weight));
}

}  // namespace vbon
