// The regression's residuals, their mean over a prompt's samples taken off, large ones counted linearly.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "train/prompt_groups.hpp"
#include "vbon/train/pool_losses.hpp"
#include "vbon/train/regression.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

// One residual: of which segment of its sample, and how much the sample counts.
struct Residual {
  double value = 0, importance = 1;
  std::size_t place = 0;
};

// Takes the mean of those at the same place off; a residual alone at its place becomes 0.
void centre(std::span<Residual> residuals) {
  std::vector<double> sum, count;
  for (const Residual& r : residuals) {
    if (r.place >= sum.size()) sum.resize(r.place + 1), count.resize(r.place + 1);
    sum[r.place] += r.importance * r.value;
    count[r.place] += r.importance;
  }
  for (Residual& r : residuals)
    if (count[r.place] > 0) r.value -= sum[r.place] / count[r.place];
}

// w_N^power of every sample of the pool, divided by its mean over the prompt.
std::vector<double> importances(const RegressionTargets& targets, const Pool& pool, double power) {
  const std::int64_t m = pool.header.num_samples;
  std::vector<double> all;
  for (std::int64_t row = 0; row < pool.block.num_prompts(); ++row) {
    double sum = 0, most = -std::numeric_limits<double>::infinity();
    for (std::int64_t i = row * m; i < (row + 1) * m; ++i) most = std::max(most, targets.log_w(i));
    for (std::int64_t i = row * m; i < (row + 1) * m; ++i) {
      all.push_back(power == 0 ? 1.0 : std::exp(power * (targets.log_w(i) - most)));
      sum += all.back();
    }
    for (std::int64_t i = row * m; i < (row + 1) * m; ++i) all[idx(i)] *= static_cast<double>(m) / sum;
  }
  return all;
}

class RegressionLoss : public PromptGroupsLoss {
 public:
  RegressionLoss(const Settings& settings, const Pool& pool, const LogFTable& table, std::span<const MoreTable> more)
      : PromptGroupsLoss(settings.regression.batch, settings.regression.samples_per_prompt,
                         static_cast<std::uint64_t>(*settings.run.seed), pool,
                         settings.regression.credit == Credit::prefix && pool.block.prefixes.every > 0
                             ? pool.block.prefixes.samples
                             : pool.header.num_samples),
        config_(settings.regression), targets_(pool, table, settings.vbon, settings.regression.credit, more),
        importance_(importances(targets_, pool, settings.regression.importance)) {}

  std::span<const std::string_view> figure_names() const override {
    static constexpr std::array<std::string_view, 4> kNames = {"loss", "residual", "residual_clipped", "log_ratio"};
    return kNames;
  }

  void add(std::span<const Sample> group, double share, std::span<Mean> figures) const override {
    std::vector<Residual> residuals;
    std::vector<std::span<float>> slopes;
    for (const Sample& sample : group) {
      std::size_t from = 0, at = 0;
      double whole = 0;
      for (const TargetSegment& segment : targets_.of(sample.index)) {
        const std::size_t size = idx(segment.end) - from;
        const auto drawn = sample.logp.subspan(from, size);
        const double log_ratio = std::accumulate(drawn.begin(), drawn.end(), 0.0) - segment.logp_reference;
        residuals.push_back({log_ratio - segment.log_ratio, importance_[idx(sample.index)], at++});
        slopes.push_back(sample.slope.subspan(from, size));
        whole += log_ratio;
        from += size;
      }
      figures[kLogRatio].add(whole);
    }
    // Clipping leaves the gradient of a loss that grows linearly beyond the limit: of residuals less their mean, so the
    // mean of what acts is taken off once more.
    const double limit = config_.clip_residual;
    if (config_.center) centre(residuals);
    double squares = 0;
    for (Residual& r : residuals) {
      squares += r.importance * r.value * r.value;
      figures[kResidual].add(std::abs(r.value));
      const bool beyond = limit > 0 && std::abs(r.value) > limit;
      figures[kClipped].add(beyond ? 1 : 0);
      if (beyond) r.value = std::clamp(r.value, -limit, limit);
    }
    if (config_.center) centre(residuals);
    const auto samples = static_cast<double>(group.size());
    figures[kLoss].add(squares / samples, samples);
    for (std::size_t i = 0; i < residuals.size(); ++i)
      std::fill(slopes[i].begin(), slopes[i].end(),
                static_cast<float>(2 * residuals[i].importance * residuals[i].value * share / samples));
  }

 private:
  enum Figure : std::size_t { kLoss, kResidual, kClipped, kLogRatio };

  RegressionSection config_;
  RegressionTargets targets_;
  std::vector<double> importance_;  // of each sample
};

}  // namespace

std::unique_ptr<PoolLoss> make_regression_loss(const Settings& settings, const Pool& pool, const LogFTable& table,
                                               std::span<const MoreTable> more) {
  return std::make_unique<RegressionLoss>(settings, pool, table, more);
}

}  // namespace vbon
