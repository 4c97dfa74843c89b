#include "vbon/train/reward_training.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>

#include "train/classifier_training.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/sha256.hpp"
#include "vbon/base/stop.hpp"
#include "vbon/comm/agree.hpp"
#include "vbon/objective/logistic.hpp"
#include "vbon/objective/stats.hpp"
#include "vbon/reward/ngram.hpp"
#include "vbon/store/folder_commit.hpp"
#include "vbon/store/safetensors.hpp"
#include "vbon/text/tokenizer.hpp"

namespace vbon {
namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr const char* kRecord = "training.json";
// All that a model's folder may hold.
const std::vector<std::string> kFiles = {
    "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "vocab.txt",   "vocab.json",        "merges.txt",     "added_tokens.json",     "chat_template.jinja",
    kRecord};

double calibration_error(const LabelSet& labels, std::span<const double> probability) {
  constexpr std::size_t kBins = 10;
  struct Bin {
    double label = 0, probability = 0;  // weighted sums
  };
  std::array<Bin, kBins> bins{};
  double all = 0, error = 0;
  for (std::size_t i = 0; i < probability.size(); ++i) {
    const LabelRecord& record = labels.records[i];
    Bin& bin = bins[std::min(kBins - 1, static_cast<std::size_t>(probability[i] * kBins))];
    bin.label += record.weight * record.value;
    bin.probability += record.weight * probability[i];
    all += record.weight;
  }
  for (const Bin& bin : bins) error += std::abs(bin.label - bin.probability);
  return error / all;
}

double correlation(const LabelSet& labels, std::span<const double> values) {
  double w = 0, x = 0, y = 0, xx = 0, yy = 0, xy = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const LabelRecord& r = labels.records[i];
    w += r.weight;
    x += r.weight * values[i];
    y += r.weight * r.value;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const LabelRecord& r = labels.records[i];
    const double dx = values[i] - x / w, dy = r.value - y / w;
    xx += r.weight * dx * dx;
    yy += r.weight * dy * dy;
    xy += r.weight * dx * dy;
  }
  return xx > 0 && yy > 0 ? xy / std::sqrt(xx * yy) : kNaN;
}

Json json_of(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json json_of(const LabelMetrics& m) {
  return {{m.of_pairs ? "pairs" : "texts", m.texts}, {"loss", json_of(m.loss)},
          {"accuracy", json_of(m.accuracy)},         {"auc", json_of(m.auc)},
          {"calibration", json_of(m.calibration)},   {"correlation", json_of(m.correlation)}};
}

template <class WriteModel>
void write_folder(const RewardConfig& config, const Json& record, WriteModel&& write_model) {
  write_folder_atomically(config.path, kFiles, [&](const fs::path& folder) {
    write_model(folder);
    write_file_atomically(folder / kRecord, record.dump(1) + "\n");
  });
}

// Everything that decides the result, and nothing else.
std::string training_key(const RewardConfig& c, std::uint64_t seed) {
  const RewardTrainConfig& t = c.train;
  Sha256 hash;
  hash.update(fmt::format("{} labels {} heldout {}", enum_name(c.kind), sha256_file(t.labels),
                          t.heldout.empty() ? "" : sha256_file(t.heldout)));
  if (c.kind == RewardKind::ngram)
    return hash
        .update(fmt::format(" {} {} {} {} {} {}", enum_name(t.ngram.model), t.ngram.order, t.ngram.prefix,
                            t.ngram.min_count, t.ngram.smoothing, t.ngram.l2))
        .hex();
  if (begins_with_pair(t.labels)) hash.update(fmt::format(" center {}", t.center));
  if (c.append_eos) hash.update(" append_eos");
  const std::vector<std::string> also = tokenizer_sources(t.base);
  return hash
      .update(fmt::format(" {} {} {} {} {} {} {} {} {} {}", folder_sha256(t.base, also), t.layers.text(), t.epochs,
                          t.batch, t.learning_rate, t.weight_decay, t.warmup, t.clip_norm, c.max_length, seed))
      .hex();
}

Json record_of(const RewardTrainingResult& result, const RewardTrainingOptions& options, const std::string& key) {
  Json record = {{"format", "vbon.reward"},
                 {"key", key},
                 {"updates", result.updates},
                 {"seconds", result.seconds},
                 {"config", options.resolved_config}};
  if (result.centered_by != 0) record["centered_by"] = result.centered_by;
  if (result.heldout.texts > 0) record["heldout"] = json_of(result.heldout);
  return record;
}

LabelMetrics metrics_of(const RewardTexts& texts, std::span<const double> predictions) {
  if (const auto* const labels = std::get_if<LabelSet>(&texts)) return label_metrics(*labels, predictions);
  return pair_metrics(std::get<std::vector<PairRecord>>(texts), predictions);
}

void train_classifier(const RewardConfig& config, comm::Collectives& group, const RewardTrainingOptions& options,
                      const std::string& key, RewardTrainingResult& result) {
  std::optional<ClassifierTraining> training;
  comm::together(group.host(), "loading", [&] { training.emplace(config, options, group); });
  const auto start = Clock::now();
  training->prepare();
  const std::int64_t total = training->updates();
  for (std::int64_t i = 0; i < total; ++i) {
    const double loss = training->update(i);
    if (options.observer && group.rank() == 0) options.observer({i + 1, total, loss, training->rate(i)});
    if (comm::any_rank(group.host(), stop::requested(), "stop requested")) {
      if (group.rank() == 0)
        log::warn(
            "stopped by a signal at update {} of {}; `vbon reward` keeps no checkpoints: the same command begins again",
            i + 1, total);
      result.code = ExitCode::requeue;
      return;
    }
  }
  if (training->on_pairs()) result.centered_by = training->center();
  result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  result.updates = total;
  if (training->has_heldout()) result.heldout = metrics_of(training->heldout().texts, training->heldout_predictions());
  comm::together(group.host(), "writing the reward model", [&] {
    if (group.rank() == 0)
      write_folder(config, record_of(result, options, key),
                   [&](const fs::path& folder) { export_classifier(training->model(), folder, config.train.base); });
  });
}

LabelSet labels_for_ngram(const std::string& path) {
  RewardTexts texts = read_reward_texts(path);
  auto* const labels = std::get_if<LabelSet>(&texts);
  require(labels != nullptr && !labels->scores, "'{}' has {}; an n-gram model learns labels in [0, 1]", path,
          labels == nullptr ? "pairs" : "scores");
  return std::move(*labels);
}

// One rank fits: it takes seconds.
void train_ngram(const RewardConfig& config, comm::Collectives& group, const RewardTrainingOptions& options,
                 const std::string& key, RewardTrainingResult& result) {
  comm::together(group.host(), "fitting the n-gram model", [&] {
    if (group.rank() != 0) return;
    const LabelSet labels = labels_for_ngram(config.train.labels);
    const auto start = Clock::now();
    const NgramModel model = fit_ngram(labels.records, config.train.ngram);
    result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (!config.train.heldout.empty()) {
      const LabelSet heldout = labels_for_ngram(config.train.heldout);
      std::vector<double> predictions;
      for (const LabelRecord& record : heldout.records) predictions.push_back(log_odds(model, record.text));
      result.heldout = label_metrics(heldout, predictions);
    }
    write_folder(config, record_of(result, options, key), [&](const fs::path& folder) { save_ngram(model, folder); });
  });
  LabelMetrics& m = result.heldout;
  std::array<double, 7> shared = {
      static_cast<double>(m.texts), m.loss, m.accuracy, m.auc, m.calibration, m.correlation, result.seconds};
  group.host().broadcast(std::span<double>(shared), 0, "metrics");
  m = {static_cast<std::int64_t>(shared[0]), false, shared[1], shared[2], shared[3], shared[4], shared[5]};
  result.seconds = shared[6];
}

}  // namespace

LabelMetrics label_metrics(const LabelSet& labels, std::span<const double> predictions) {
  check(labels.records.size() == predictions.size(), "a prediction for every text");
  LabelMetrics m{.texts = std::ssize(predictions),
                 .of_pairs = false,
                 .loss = kNaN,
                 .accuracy = kNaN,
                 .auc = kNaN,
                 .calibration = kNaN,
                 .correlation = kNaN};
  double weight = 0, loss = 0;
  std::vector<double> probability, decided;
  std::vector<std::uint8_t> positive;
  for (std::size_t i = 0; i < predictions.size(); ++i) {
    const LabelRecord& r = labels.records[i];
    const double z = predictions[i];
    weight += r.weight;
    loss += r.weight * (labels.scores ? (z - r.value) * (z - r.value) : softplus(z) - r.value * z);
    if (labels.scores) continue;
    probability.push_back(sigmoid(z));
    if (r.value == 0.5) continue;
    decided.push_back(z);
    positive.push_back(r.value > 0.5 ? 1 : 0);
  }
  if (weight == 0) return m;
  m.loss = loss / weight;
  m.correlation = correlation(labels, labels.scores ? predictions : std::span<const double>(probability));
  if (!labels.scores) m.calibration = calibration_error(labels, probability);
  if (!decided.empty()) {
    m.accuracy = accuracy(decided, positive, 0.0);
    m.auc = auc(decided, positive);
  }
  return m;
}

LabelMetrics pair_metrics(std::span<const PairRecord> pairs, std::span<const double> rewards) {
  check(rewards.size() == 2 * pairs.size(), "a reward for every text of a pair");
  LabelSet orders;  // either order of each pair, with what speaks for it
  std::vector<double> differences;
  std::vector<std::uint8_t> chosen;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const double difference = rewards[2 * i] - rewards[2 * i + 1];
    for (const bool right : {true, false}) {
      orders.records.push_back({"", right ? 1.0 : 0.0, pairs[i].weight});
      differences.push_back(right ? difference : -difference);
      chosen.push_back(right ? 1 : 0);
    }
  }
  LabelMetrics m = label_metrics(orders, differences);
  m.texts = std::ssize(pairs);
  m.of_pairs = true;
  m.correlation = kNaN;
  if (!pairs.empty()) m.auc = auc(rewards, chosen);
  return m;
}

RewardTrainingResult train_reward(const RewardConfig& config, comm::Collectives& group,
                                  const RewardTrainingOptions& options) {
  check(config.kind != RewardKind::exec, "train_reward: a program is not trained here");
  RewardTrainingResult result;
  std::string key, there;
  comm::together(group.host(), "the reward model", [&] {
    if (group.rank() != 0) return;
    key = training_key(config, options.seed);
    const FolderRecord record = {kRecord, "vbon reward", "other labels, another base, seed or configuration",
                                 fmt::format("{}.path", options.section)};
    there = already_made(config.path, record, key) ? "yes" : "no";
  });
  if (comm::from_root(group.host(), there, 0, "the reward model") == "yes") {
    result.skipped = true;
    return result;
  }
  if (config.kind == RewardKind::ngram) train_ngram(config, group, options, key, result);
  else train_classifier(config, group, options, key, result);
  return result;
}

}  // namespace vbon
