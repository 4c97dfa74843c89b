// InfoNCA on groups of one prompt's samples.
#include <algorithm>
#include <array>

#include "train/log_ratio.hpp"
#include "train/prompt_groups.hpp"
#include "vbon/objective/infonca.hpp"
#include "vbon/train/pool_losses.hpp"
#include "vbon/train/regression.hpp"

namespace vbon {
namespace {

class InfoncaLoss : public PromptGroupsLoss {
 public:
  InfoncaLoss(const Settings& settings, const Pool& pool, const LogFTable& table, std::span<const MoreTable> more)
      : PromptGroupsLoss(settings.infonca.batch, settings.infonca.samples_per_prompt,
                         static_cast<std::uint64_t>(*settings.run.seed), pool, pool.header.num_samples),
        targets_(pool, table, settings.vbon, Credit::response, more), samples_(pool.block.samples) {}

  std::span<const std::string_view> figure_names() const override {
    static constexpr std::array<std::string_view, 3> kNames = {"loss", "accuracy", "log_ratio"};
    return kNames;
  }

  void add(std::span<const Sample> group, double share, std::span<Mean> figures) const override {
    std::vector<double> log_w, log_ratio, slope(group.size());
    for (const Sample& sample : group) {
      log_w.push_back(targets_.log_w(sample.index));
      log_ratio.push_back(response_log_ratio(sample, samples_));
    }
    figures[kLoss].add(infonca_loss(log_w, log_ratio, slope));
    // Does the policy, against the reference, prefer the sample of the largest weight? Ties count as a right answer.
    const auto preferred = std::ranges::max_element(log_ratio) - log_ratio.begin();
    figures[kAccuracy].add(log_w[static_cast<std::size_t>(preferred)] == *std::ranges::max_element(log_w) ? 1 : 0);
    for (std::size_t i = 0; i < group.size(); ++i) {
      figures[kLogRatio].add(log_ratio[i]);
      std::ranges::fill(group[i].slope, static_cast<float>(slope[i] * share));
    }
  }

 private:
  enum Figure : std::size_t { kLoss, kAccuracy, kLogRatio };

  RegressionTargets targets_;
  const SampleRows& samples_;
};

}  // namespace

std::unique_ptr<PoolLoss> make_infonca_loss(const Settings& settings, const Pool& pool, const LogFTable& table,
                                            std::span<const MoreTable> more) {
  return std::make_unique<InfoncaLoss>(settings, pool, table, more);
}

}  // namespace vbon
