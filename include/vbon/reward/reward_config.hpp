// Sections `reward` and `evaluator`: which model scores (prompt, response), how its answer becomes a number, and how
// `vbon reward` makes it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vbon/base/fields.hpp"

namespace vbon {

enum class RewardKind { classifier, ngram, exec };
std::span<const std::pair<RewardKind, std::string_view>> enum_names(RewardKind);
enum class RewardOutput { log_prob, prob, logit };
std::span<const std::pair<RewardOutput, std::string_view>> enum_names(RewardOutput);
enum class NgramKind { naive_bayes, logistic };
std::span<const std::pair<NgramKind, std::string_view>> enum_names(NgramKind);

// What `vbon reward` trains of a classifier: its head alone, the head and the last K blocks, or everything.
struct RewardLayers {
  std::int64_t last = 3;  // 0: the head alone; kAll: everything, embeddings too
  static constexpr std::int64_t kAll = -1;
  static constexpr std::string_view kSyntax = "head | last K | all";
  static RewardLayers parse(std::string_view text);  // UserError
  std::string text() const;
  bool operator==(const RewardLayers&) const = default;
};

struct NgramConfig {
  NgramKind model = NgramKind::naive_bayes;
  std::int64_t order = 2;
  std::int64_t prefix = 0;
  std::int64_t min_count = 1;
  double smoothing = 1.0;
  double l2 = 1.0;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.model,
      {.name = "model", .help = "naive_bayes (multinomial, on presence) or logistic (regression on presence)"});
    v(c.order, {.name = "order", .help = "1: single words; 2: pairs of neighbours too; up to 5", .unit = "words"});
    v(c.prefix,
      {.name = "prefix",
       .help = "longer words count by this many first letters too (plain stemming; 5 is good in English); 0: not",
       .unit = "letters"});
    v(c.min_count, {.name = "min_count", .help = "n-grams of fewer training texts are left out", .unit = "texts"});
    v(c.smoothing,
      {.name = "smoothing", .help = "naive_bayes: added to the count of every n-gram in either class, > 0"});
    v(c.l2,
      {.name = "l2", .help = "logistic: half this much times the squared weights is added to the summed loss, > 0"});
  }
};

struct RewardTrainConfig {
  std::string labels, heldout, base;
  RewardLayers layers;
  std::int64_t epochs = 2;
  std::int64_t batch = 32;
  std::int64_t micro_batch = 32;
  double learning_rate = 3e-4;
  double weight_decay = 0.01;
  std::int64_t warmup = 10;
  double clip_norm = 1.0;
  double center = 0.01;
  NgramConfig ngram;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.labels,
      {.name = "labels",
       .help = "what to learn from, JSON Lines: {text, label in [0, 1] or score, weight?}; or pairs {prompt?, chosen, "
               "rejected, weight?} (Bradley-Terry)"});
    v(c.heldout, {.name = "heldout", .help = "more of the same for accuracy, AUC and calibration; none: not measured"});
    v(c.base,
      {.name = "base", .help = "classifier: Hugging Face folder of the encoder or language model to start from"});
    v(c.layers, {.name = "layers", .help = "classifier: what is trained; frozen layers run once"});
    v(c.epochs, {.name = "epochs", .help = "classifier: passes over the texts or pairs"});
    v(c.batch, {.name = "batch", .help = "classifier: texts or pairs an update", .unit = "texts"});
    v(c.micro_batch, {.name = "micro_batch",
                      .help = "classifier: texts or pairs that a rank runs at once; changes memory, not results",
                      .unit = "texts"});
    v(c.learning_rate, {.name = "learning_rate", .help = "classifier: AdamW's highest rate; falls linearly to 0"});
    v(c.weight_decay, {.name = "weight_decay", .help = "classifier: decoupled weight decay, >= 0"});
    v(c.warmup, {.name = "warmup", .help = "classifier: updates over which the rate rises from 0", .unit = "updates"});
    v(c.clip_norm, {.name = "clip_norm", .help = "classifier: the gradient is scaled down to this norm; 0: never"});
    v(c.center,
      {.name = "center",
       .help = "pairs: this much times the mean of (r(chosen) + r(rejected))^2 is added to the loss, so that rewards "
               "stay around 0; 0: not"});
    v(c.ngram, {.name = "ngram", .help = "kind ngram: features and fit"});
  }
};

struct RewardConfig {
  RewardKind kind = RewardKind::classifier;
  std::string path;
  RewardOutput output = RewardOutput::log_prob;
  std::string label;
  double round = 1e-5;
  std::int64_t batch = 16;
  std::int64_t max_length = 256;
  bool append_eos = false;
  std::vector<std::string> command;
  std::string id;
  double timeout_s = 120.0;
  double startup_s = 600.0;
  RewardTrainConfig train;

  bool configured() const { return !path.empty() || !command.empty(); }

  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.kind,
      {.name = "kind",
       .help = "classifier (Hugging Face encoder or language model with a head), ngram, or exec (a program of yours)"});
    v(c.path, {.name = "path", .help = "folder of the model: written by `vbon reward`, read by the others"});
    v(c.output, {.name = "output",
                 .help = "log_prob or prob of the label, or logit: against the other label where there are two"});
    v(c.label, {.name = "label", .help = "name or number of the label that is good; default: the last one"});
    v(c.round,
      {.name = "round",
       .help = "scores are rounded to multiples of this, so that noise of the last bits makes no order; 0: not"});
    v(c.batch, {.name = "batch",
                .help = "rows scored at once; a classifier always runs as many, timeout_s of exec is for as many",
                .unit = "texts"});
    v(c.max_length, {.name = "max_length", .help = "classifier: of longer texts the end is read", .unit = "tokens"});
    v(c.append_eos,
      {.name = "append_eos",
       .help = "classifier that is a language model: texts end with its end token, and the head reads there; as it was "
               "trained"});
    v(c.command,
      {.name = "command",
       .help = "exec: program and arguments (no shell); reads {prompt, response}, answers {reward}, a line each"});
    v(c.id, {.name = "id", .help = "exec: names this version of the program; change it when its rewards change"});
    v(c.timeout_s, {.name = "timeout_s", .help = "exec: for the answers to one batch", .unit = "s"});
    v(c.startup_s, {.name = "startup_s", .help = "exec: more, until the first answer", .unit = "s"});
    v(c.train, {.name = "train", .help = "how `vbon reward` makes the model"});
  }
};

// What is wrong for scoring, one message a fault, naming keys below `section`; empty: nothing.
std::vector<std::string> problems(const RewardConfig& config, std::string_view section);
// The same for `vbon reward`.
std::vector<std::string> training_problems(const RewardConfig& config, std::string_view section);

}  // namespace vbon
