// The statistics of an evaluation: means with standard errors over prompts, bootstrap intervals, win rates,
// classifiers.
#pragma once

#include <cstdint>
#include <span>

#include "vbon/base/rng.hpp"

namespace vbon {

struct MeanError {
  double mean = 0;
  double sd = 0;  // of one value, unbiased variance; 0 for one value
  double se = 0;  // of the mean
  std::int64_t count = 0;
};
MeanError mean_error(std::span<const double> values);  // at least one value

struct Interval {
  double low = 0;
  double high = 0;
};
// Percentile bootstrap of the mean over prompts: `resamples` draws with replacement from a stream of
// Purpose::bootstrap. The same stream for two quantities of the same prompts draws the same prompts: their intervals
// are paired.
Interval bootstrap_mean(std::span<const double> values, const RandomStream& stream, double level = 0.95,
                        int resamples = 2000);

// P(r > a reference sample) from a prompt's ascending table, ties half.
double win_rate(std::span<const float> sorted, float reward);

// Of a classifier: probability that a positive scores above a negative, ties half; NaN with one class only.
double auc(std::span<const double> scores, std::span<const std::uint8_t> labels);
// Share with (score > threshold) == label.
double accuracy(std::span<const double> scores, std::span<const std::uint8_t> labels, double threshold);

}  // namespace vbon
