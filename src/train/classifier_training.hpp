// Fine-tuning of a classifier, an encoder or a causal language model with a head, on labelled texts or on pairs: the
// part of reward_training.cpp that knows tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vbon/comm/collectives.hpp"
#include "vbon/model/text_classifier.hpp"
#include "vbon/reward/classifier.hpp"
#include "vbon/reward/reward_config.hpp"
#include "vbon/text/records.hpp"
#include "vbon/train/data_parallel.hpp"
#include "vbon/train/reward_training.hpp"

namespace vbon {

// Examples as token rows: a text with its label, or a pair, whose rows follow each other, chosen first.
struct ClassifierTexts {
  RewardTexts texts;
  std::vector<double> weights;       // of each example
  std::int64_t rows_of_example = 1;  // 2: pairs
  std::vector<TokenRow> rows;

  bool are_pairs() const { return rows_of_example == 2; }
  std::int64_t size() const { return std::ssize(weights); }
  const LabelSet& labels() const { return std::get<LabelSet>(texts); }
  std::vector<std::size_t> places_of(std::span<const std::size_t> examples) const;  // of their rows
};

class ClassifierTraining {
 public:
  // Loads the model. Local: makes no collective calls.
  ClassifierTraining(const RewardConfig& config, const RewardTrainingOptions& options, comm::Collectives& group);
  ClassifierTraining(const ClassifierTraining&) = delete;
  ClassifierTraining& operator=(const ClassifierTraining&) = delete;

  // The rest is collective.
  void
  prepare();  // runs the frozen blocks once over all training texts, shared by the ranks, where that fits in memory
  std::int64_t updates() const { return updates_per_epoch() * config_.train.epochs; }
  std::int64_t updates_per_epoch() const;
  double update(std::int64_t number);  // from 0; returns the batch's loss
  double rate(std::int64_t number) const;
  bool has_heldout() const { return !heldout_.rows.empty(); }
  bool on_pairs() const { return texts_.are_pairs(); }
  // Takes the mean reward of the training texts, each with its pair's weight, off the output, and returns it.
  double center();
  // Of every row: log odds of the positive class, scores, or the rewards of pairs.
  std::vector<double> heldout_predictions();
  const ClassifierTexts& heldout() const { return heldout_; }
  const TextClassifier& model() const { return model_; }

 private:
  ClassifierTexts encode(RewardTexts texts, const std::string& path) const;
  void run_trunk();
  // What the trained layers read of those texts, padded to `length`: [places.size(), length, D].
  at::Tensor trunk_of(std::span<const std::size_t> places, const PaddedRows& padded, const at::Tensor& mask) const;
  at::Tensor logits_of(std::span<const std::size_t> places) const;  // of training rows: [places.size(), C]
  at::Tensor loss_sum(std::span<const std::size_t> examples) const;
  const std::vector<std::size_t>& batch_of(std::int64_t number);
  void order_epoch(std::int64_t epoch);

  const RewardConfig& config_;
  const RewardTrainingOptions& options_;
  comm::Collectives& group_;
  TextClassifier model_;
  ClassifierFacts facts_;  // of model_
  std::unique_ptr<TextRows> text_;
  ClassifierTexts texts_, heldout_;
  std::int64_t first_trained_ = 0;  // blocks below are frozen; the number of blocks: the head alone is trained
  bool trains_embeddings_ = false;
  OptimizerConfig optimizer_config_;
  FlatParameters parameters_;
  std::optional<DataParallel> parallel_;
  at::Tensor trunk_;                  // [tokens of all texts, D] below the first trained block; undefined: not kept
  std::vector<std::int64_t> offset_;  // of each text's tokens in trunk_
  std::int64_t ordered_epoch_ = -1;
  std::vector<std::vector<std::size_t>> batches_;  // of ordered_epoch_
};

}  // namespace vbon
