#include "vbon/train/imitation.hpp"

#include <algorithm>

#include "vbon/base/error.hpp"
#include "vbon/base/rng.hpp"
#include "vbon/objective/bon_curve.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

// The place of a number in [0, 1) among cumulated probabilities.
std::int64_t place_of(double u, std::span<const double> probability) {
  double sum = 0;
  for (std::size_t i = 0; i < probability.size(); ++i) {
    sum += probability[i];
    if (u < sum) return static_cast<std::int64_t>(i);
  }
  // Rounding left u above the sum: the last that can be drawn.
  const auto last = std::find_if(probability.rbegin(), probability.rend(), [](double p) { return p > 0; });
  return std::distance(probability.begin(), last.base()) - 1;
}

}  // namespace

std::vector<Imitated> best_of_pool(const Pool& pool, std::span<const std::int64_t> pool_rows, double n,
                                   std::int64_t samples, std::int64_t seed, std::int64_t step) {
  const RandomStream stream(static_cast<std::uint64_t>(seed), Purpose::subset, 0, step);
  const std::int64_t m = pool.header.num_samples;
  std::vector<Imitated> imitated;
  for (std::size_t i = 0; i < pool_rows.size(); ++i) {
    const std::int64_t row = pool_rows[i];
    const auto add = [&](std::int64_t sample, double weight) {
      imitated.push_back({.sequence = {pool.block.prompts.tokens_of(row), pool.block.samples.tokens_of(row, sample)},
                          .prompt = i,
                          .weight = weight});
    };
    const std::vector<double> weight = bon_weights(pool.rewards_of(row), n);
    for (std::int64_t k = 0; k < m && samples == 0; ++k)
      if (weight[idx(k)] > 0) add(k, weight[idx(k)]);
    for (std::int64_t k = 0; k < samples; ++k)
      add(place_of(stream.uniform(pool.block.prompts.id[idx(row)], static_cast<std::int32_t>(k)), weight),
          1 / static_cast<double>(samples));
  }
  return imitated;
}

AnchorSamples::AnchorSamples(const PromptRows& prompts, std::span<const std::int64_t> rows, const RolloutBatch& batch)
    : prompts_(prompts), rows_(rows.begin(), rows.end()), batch_(batch),
      samples_(idx(batch.num_sequences()) / rows.size()) {
  check(samples_ * rows.size() == idx(batch.num_sequences()) && samples_ >= 2, "anchor samples of every prompt");
}

std::span<const float> AnchorSamples::rewards(std::size_t prompt) const {
  return std::span(batch_.reward).subspan(prompt * samples_, samples_);
}

Quantiles AnchorSamples::quantiles(std::size_t prompt, float reward) const {
  TableCounts counts;
  for (const float r : rewards(prompt)) counts.lt += r < reward ? 1 : 0, counts.le += r <= reward ? 1 : 0;
  return exact_quantiles(counts, static_cast<std::int64_t>(samples_));
}

std::vector<Imitated> AnchorSamples::best(double n) const {
  std::vector<Imitated> imitated;
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    const std::vector<double> weight = bon_weights(rewards(i), n);
    for (std::size_t k = 0; k < samples_; ++k) {
      const std::size_t sequence = i * samples_ + k;
      if (weight[k] > 0)
        imitated.push_back(
            {.sequence = {prompts_.tokens_of(rows_[i]),
                          std::span(batch_.tokens)
                              .subspan(sequence * idx(batch_.max_new_tokens), idx(batch_.length[sequence]))},
             .prompt = i,
             .weight = weight[k]});
    }
  }
  return imitated;
}

}  // namespace vbon
