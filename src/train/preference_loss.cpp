// DPO, IPO and SLiC: pairs of a prompt's first samples, the preferred one by the reward.
#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "train/log_ratio.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/rng.hpp"
#include "vbon/objective/logistic.hpp"
#include "vbon/objective/preference.hpp"
#include "vbon/train/pool_losses.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

struct Pair {
  std::int64_t chosen = 0, rejected = 0;  // samples, row * M + m
};

// Distinct numbers below `bound` in a random order that `row` keys, as many as are asked for one after the other.
class Choice {
 public:
  Choice(const RandomStream& stream, std::int64_t row, std::int64_t bound) : stream_(stream), row_(row), bound_(bound) {
    if (bound <= kListed) order_ = permutation(stream, bound, static_cast<std::int32_t>(row));
  }
  // Fewer than all of a long list: half of them at most, so that drawing until one is new stays cheap.
  std::int64_t size() const { return bound_ <= kListed ? bound_ : bound_ / 2; }
  std::int64_t next() {
    if (!order_.empty()) return order_[idx(taken_++)];
    for (;;) {
      const std::int64_t value = stream_.below(bound_, row_, kApart, static_cast<std::int32_t>(taken_++));
      if (seen_.insert(value).second) return value;
    }
  }

 private:
  static constexpr std::int64_t kListed = 1 << 16;
  static constexpr std::int32_t kApart = -1;  // of the permutations' draws

  const RandomStream& stream_;
  std::int64_t row_, bound_, taken_ = 0;
  std::vector<std::int64_t> order_;
  std::set<std::int64_t> seen_;
};

// The two samples a < b of pair number k of all: 0-1, 0-2, 1-2, 0-3 …
std::pair<std::int64_t, std::int64_t> samples_of(std::int64_t k) {
  auto b = static_cast<std::int64_t>((1 + std::sqrt(1 + 8 * static_cast<double>(k))) / 2);
  while (b * (b - 1) / 2 > k) --b;
  while ((b + 1) * b / 2 <= k) ++b;
  return {k - b * (b - 1) / 2, b};
}

// Pairs among the first `generations` samples of each prompt, in keyed order until there are as many as asked for.
// Labels by the order of rewards leave out equal ones; others follow P(a before b) = sigmoid(r_a - r_b).
std::vector<Pair> pairs_of(const PreferenceSection& config, std::uint64_t seed, const Pool& pool) {
  const RandomStream order(seed, Purpose::pair, 0, 0), labels(seed, Purpose::pair, 0, 1);
  const std::vector<float>& reward = pool.block.rewards.at("main");
  const std::int64_t m = pool.header.num_samples;
  const std::int64_t from = config.generations == 0 ? m : std::min(config.generations, m);
  std::vector<Pair> all;
  for (std::int64_t row = 0; row < pool.block.num_prompts(); ++row) {
    Choice choice(order, row, from * (from - 1) / 2);
    std::int64_t found = 0;
    for (std::int64_t tried = 0; tried < choice.size() && (config.pairs == 0 || found < config.pairs); ++tried) {
      const auto [a, b] = samples_of(choice.next());
      Pair pair{.chosen = row * m + a, .rejected = row * m + b};
      const double gap = static_cast<double>(reward[idx(pair.chosen)]) - reward[idx(pair.rejected)];
      if (config.labels == Labels::hard && gap == 0) continue;
      const bool keep = config.labels == Labels::sampled ? labels.uniform(row, static_cast<std::int32_t>(a),
                                                                          static_cast<std::int32_t>(b)) < sigmoid(gap)
                                                         : gap >= 0;
      if (!keep) std::swap(pair.chosen, pair.rejected);
      all.push_back(pair);
      ++found;
    }
  }
  require(!all.empty(), "no two samples of a prompt differ in reward: there is no pair to learn from");
  return all;
}

class PreferenceLoss : public PoolLoss {
 public:
  PreferenceLoss(Method method, const Settings& settings, const Pool& pool, std::vector<Pair> pairs)
      : PoolLoss({.samples = 2,
                  .an_epoch = std::ssize(pairs),
                  .an_update = std::min<std::int64_t>(settings.preference.batch, std::ssize(pairs))}),
        method_(method), config_(settings.preference), seed_(static_cast<std::uint64_t>(*settings.run.seed)),
        pool_(pool), pairs_(std::move(pairs)) {}

  std::span<const std::string_view> figure_names() const override {
    static constexpr std::array<std::string_view, 5> kNames = {"loss", "margin", "accuracy", "log_ratio_chosen",
                                                               "log_ratio_rejected"};
    return kNames;
  }

  void add(std::span<const Sample> group, double share, std::span<Mean> figures) const override {
    const SampleRows& samples = pool_.block.samples;
    const double chosen = response_log_ratio(group[0], samples), rejected = response_log_ratio(group[1], samples);
    const double of_chosen = weight(group[0]), of_rejected = weight(group[1]);
    const double margin = of_chosen * chosen - of_rejected * rejected;
    const double certainty = prefers_chosen(group[0].index, group[1].index);
    const PairLoss right = loss(margin), wrong = loss(-margin);
    const double slope = (certainty * right.slope - (1 - certainty) * wrong.slope) * share;
    figures[0].add(certainty * right.loss + (1 - certainty) * wrong.loss);
    figures[1].add(margin);
    figures[2].add(margin > 0 ? 1 : margin == 0 ? 0.5 : 0);
    figures[3].add(chosen);
    figures[4].add(rejected);
    std::fill(group[0].slope.begin(), group[0].slope.end(), static_cast<float>(slope * of_chosen));
    std::fill(group[1].slope.begin(), group[1].slope.end(), static_cast<float>(-slope * of_rejected));
  }

 protected:
  std::vector<std::int64_t> deal(std::int64_t epoch) const override {
    std::vector<std::int64_t> dealt;
    for (const std::int64_t i : permutation(RandomStream(seed_, Purpose::data_order, 0, epoch), std::ssize(pairs_)))
      dealt.insert(dealt.end(), {pairs_[idx(i)].chosen, pairs_[idx(i)].rejected});
    return dealt;
  }

 private:
  double weight(const Sample& sample) const {
    return config_.per_token ? 1 / static_cast<double>(sample.logp.size()) : 1;
  }
  // P(the first is preferred), as the labels have it.
  double prefers_chosen(std::int64_t chosen, std::int64_t rejected) const {
    const std::vector<float>& reward = pool_.block.rewards.at("main");
    return config_.labels == Labels::soft ? sigmoid(static_cast<double>(reward[idx(chosen)]) - reward[idx(rejected)])
                                          : 1;
  }
  PairLoss loss(double margin) const {
    if (method_ == Method::ipo) return ipo_loss(margin, config_.beta);
    if (method_ == Method::slic) return slic_loss(margin, config_.beta);
    return dpo_loss(margin, config_.beta, config_.label_smoothing);
  }

  Method method_;
  PreferenceSection config_;
  std::uint64_t seed_;
  const Pool& pool_;
  std::vector<Pair> pairs_;
};

}  // namespace

std::unique_ptr<PoolLoss> make_preference_loss(Method method, const Settings& settings, const Pool& pool) {
  return std::make_unique<PreferenceLoss>(
      method, settings, pool, pairs_of(settings.preference, static_cast<std::uint64_t>(*settings.run.seed), pool));
}

}  // namespace vbon
