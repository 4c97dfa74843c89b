// BoNBoN: the best and the worst of the same N samples of a prompt.
#include <algorithm>
#include <array>
#include <cmath>

#include "train/log_ratio.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/rng.hpp"
#include "vbon/objective/bonbon.hpp"
#include "vbon/train/pool_losses.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

// Best and worst of disjoint keyed subsets of n, bonbon.pairs of them a prompt; a subset of equal rewards has neither.
std::vector<std::int64_t> extremes_of(const BonbonSection& config, std::int64_t n, std::uint64_t seed,
                                      const Pool& pool) {
  const RandomStream stream(seed, Purpose::subset);
  const std::int64_t m = pool.header.num_samples, most = m / n;
  std::vector<std::int64_t> extremes;
  for (std::int64_t row = 0; row < pool.block.num_prompts(); ++row) {
    const std::span<const float> rewards = pool.rewards_of(row);
    const std::vector<std::int64_t> order = permutation(stream, m, static_cast<std::int32_t>(row));
    const std::int64_t subsets = config.pairs == 0 ? most : std::min(config.pairs, most);
    for (std::int64_t s = 0; s < subsets; ++s) {
      const auto [worst, best] =
          std::minmax_element(order.begin() + s * n, order.begin() + (s + 1) * n,
                              [&](std::int64_t a, std::int64_t b) { return rewards[idx(a)] < rewards[idx(b)]; });
      if (rewards[idx(*worst)] < rewards[idx(*best)])
        extremes.insert(extremes.end(), {row * m + *best, row * m + *worst});
    }
  }
  require(!extremes.empty(), "all samples of a prompt have the same reward: there is no best and worst to learn from");
  return extremes;
}

class BonbonLossOnPool : public PoolLoss {
 public:
  BonbonLossOnPool(const Settings& settings, const Pool& pool, std::int64_t n, std::vector<std::int64_t> extremes)
      : PoolLoss({.samples = 2,
                  .an_epoch = std::ssize(extremes) / 2,
                  .an_update = std::min<std::int64_t>(settings.bonbon.batch, std::ssize(extremes) / 2)}),
        seed_(static_cast<std::uint64_t>(*settings.run.seed)), pool_(pool), n_(n), extremes_(std::move(extremes)) {
    double nll = 0;
    for (std::size_t i = 0; i < extremes_.size(); i += 2) nll -= pool_.block.samples.logp_reference[idx(extremes_[i])];
    alpha_ = settings.bonbon.alpha.value_or(bonbon_alpha(n, nll / static_cast<double>(extremes_.size() / 2)));
  }

  std::span<const std::string_view> figure_names() const override {
    static constexpr std::array<std::string_view, 5> kNames = {"loss", "nll", "square", "margin", "alpha"};
    return kNames;
  }

  void add(std::span<const Sample> group, double share, std::span<Mean> figures) const override {
    const SampleRows& samples = pool_.block.samples;
    const double margin = response_log_ratio(group[0], samples) - response_log_ratio(group[1], samples);
    const BonbonLoss loss = bonbon_loss(response_logp(group[0]), margin, n_, alpha_);
    figures[0].add(loss.loss);
    figures[1].add(loss.nll);
    figures[2].add(loss.square);
    figures[3].add(margin);
    figures[4].add(alpha_);
    std::fill(group[0].slope.begin(), group[0].slope.end(), static_cast<float>(loss.best_slope * share));
    std::fill(group[1].slope.begin(), group[1].slope.end(), static_cast<float>(loss.worst_slope * share));
  }

 protected:
  std::vector<std::int64_t> deal(std::int64_t epoch) const override {
    std::vector<std::int64_t> dealt;
    for (const std::int64_t i : permutation(RandomStream(seed_, Purpose::data_order, 0, epoch), grouping().an_epoch))
      dealt.insert(dealt.end(), {extremes_[idx(2 * i)], extremes_[idx(2 * i + 1)]});
    return dealt;
  }

 private:
  std::uint64_t seed_;
  const Pool& pool_;
  std::int64_t n_;
  std::vector<std::int64_t> extremes_;  // best and worst of each pair
  double alpha_ = 0;
};

}  // namespace

std::unique_ptr<PoolLoss> make_bonbon_loss(const Settings& settings, const Pool& pool) {
  const std::int64_t n = std::llround(target_n(settings.vbon));
  require(
      n <= pool.header.num_samples,
      "vbon.N is {}, but the pool has {} samples a prompt: method bonbon takes the best and the worst of N of them; "
      "draw a larger pool or lower N",
      n, pool.header.num_samples);
  return std::make_unique<BonbonLossOnPool>(
      settings, pool, n, extremes_of(settings.bonbon, n, static_cast<std::uint64_t>(*settings.run.seed), pool));
}

}  // namespace vbon
