// `vbon reward`: a reward model or evaluator from labelled texts or pairs. kind classifier fine-tunes an encoder or a
// causal language model with a head (all of it, its last blocks, or the head alone), kind ngram fits a linear model on
// words. Labels may be soft. Rewards learned from pairs are centred: their mean over the training texts is 0.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "vbon/base/error.hpp"
#include "vbon/comm/collectives.hpp"
#include "vbon/reward/reward_config.hpp"
#include "vbon/text/records.hpp"

namespace vbon {

// Of predictions on labelled texts or on pairs, each weighted. NaN: cannot be told (no text, one class only, scores).
struct LabelMetrics {
  std::int64_t texts = 0;  // or pairs
  bool of_pairs = false;
  double loss = 0;      // cross-entropy in nats; of scores: mean squared error
  double accuracy = 0;  // of (P > 1/2) against (label > 1/2); texts of label 1/2 are left out, here and in the AUC
  double auc = 0;
  double calibration = 0;  // expected calibration error of P over ten equal bins: mean |mean label - mean P|
  double correlation = 0;  // Pearson's, of P (or predicted score) and label (or score)
};
// `predictions`: log odds of the positive class, or predicted scores.
LabelMetrics label_metrics(const LabelSet& labels, std::span<const double> predictions);
// `rewards` of each pair's chosen and rejected text in turn. With d = r(chosen) - r(rejected): loss -log sigmoid(d),
// accuracy d > 0 (ties count half), calibration of sigmoid(d) and sigmoid(-d) as the probabilities of either order; the
// AUC is of all chosen texts against all rejected ones, and tells whether rewards of different prompts compare.
LabelMetrics pair_metrics(std::span<const PairRecord> pairs, std::span<const double> rewards);

struct RewardTrainingProgress {
  std::int64_t update = 0, total = 0;
  double loss = 0;  // of the last update's texts
  double learning_rate = 0;
};

struct RewardTrainingResult {
  ExitCode code = ExitCode::ok;  // or requeue: stopped by a signal, nothing written
  bool skipped = false;          // the model was there, made by the same configuration
  LabelMetrics heldout;          // texts 0: not measured
  std::int64_t updates = 0;
  double centered_by = 0;  // pairs: the mean reward of the training texts, which was taken off
  double seconds = 0;      // training without loading and measuring
};

struct RewardTrainingOptions {
  std::string_view section = "reward";  // its keys are named in messages
  std::uint64_t seed = 0;
  at::Device device = at::kCPU;
  std::string resolved_config;                                  // recorded in training.json
  std::function<void(const RewardTrainingProgress&)> observer;  // called on the root after each update
};

// Writes config.path: the model's folder with `training.json` (configuration, metrics), which appears whole or not at
// all. Collective: each rank takes a share of every batch, gradients are summed and normalised by the weights of the
// whole batch. The same configuration and number of ranks give the same bits. UserError if the folder exists and was
// made differently, for labels of a wrong kind, and where training diverges.
RewardTrainingResult train_reward(const RewardConfig& config, comm::Collectives& group,
                                  const RewardTrainingOptions& options);

}  // namespace vbon
