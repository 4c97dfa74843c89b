// Sections of the methods that learn from the pool alone.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vbon/base/fields.hpp"

namespace vbon {

enum class Credit { response, prefix };  // which tokens share a residual of the regression
std::span<const std::pair<Credit, std::string_view>> enum_names(Credit);
enum class BestOf { weighted, drawn };
std::span<const std::pair<BestOf, std::string_view>> enum_names(BestOf);
enum class Labels { hard, sampled, soft };
std::span<const std::pair<Labels, std::string_view>> enum_names(Labels);

struct RegressionSection {
  std::int64_t batch = 64;
  std::int64_t samples_per_prompt = 8;
  bool center = true;
  Credit credit = Credit::response;
  double clip_residual = 3.0;
  double importance = 0;
  std::optional<double> learning_rate;
  std::optional<std::int64_t> warmup;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.batch, {.name = "batch", .help = "pool samples an update", .unit = "samples"});
    v(c.samples_per_prompt,
      {.name = "samples_per_prompt", .help = "of them to each prompt of an update; divides batch", .unit = "samples"});
    v(c.center,
      {.name = "center",
       .help = "take the mean over a prompt's samples off the residuals: the log-variance loss, which leaves the "
               "normaliser free; else plain squares"});
    v(c.credit, {.name = "credit",
                 .help = "response (one residual for all its tokens) or prefix (one for the tokens between two cuts of "
                         "pool.prefix_every, by what the reward of the prefixes foretells)"});
    v(c.clip_residual, {.name = "clip_residual",
                        .help = "residuals count as at most this much in the gradient; 0: no limit",
                        .unit = "nats"});
    v(c.importance,
      {.name = "importance",
       .help = "a sample counts w_N to this power: 0 as often as the reference draws it, 1 as often as Best-of-N does, "
               "so that samples of low F count less"});
    v(c.learning_rate, {.name = "learning_rate", .help = "of the regression; default: optimizer.learning_rate"});
    v(c.warmup, {.name = "warmup", .help = "of the regression; default: optimizer.warmup", .unit = "updates"});
  }
};

struct InfoncaSection {
  std::int64_t batch = 64;
  std::int64_t samples_per_prompt = 8;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.batch, {.name = "batch", .help = "pool samples an update", .unit = "samples"});
    v(c.samples_per_prompt, {.name = "samples_per_prompt",
                             .help = "of them to each prompt of an update, told apart by w_N; divides batch",
                             .unit = "samples"});
  }
};

struct BonSftSection {
  BestOf best = BestOf::weighted;
  std::int64_t batch = 64;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.best,
      {.name = "best",
       .help = "weighted (every sample with its exact probability to be the best of N in the pool) or drawn (the "
               "best of one random N a prompt, another each epoch)"});
    v(c.batch, {.name = "batch", .help = "pool samples an update", .unit = "samples"});
  }
};

struct PreferenceSection {
  double beta = 0.1;
  double label_smoothing = 0;
  Labels labels = Labels::hard;
  std::int64_t generations = 6;
  std::int64_t pairs = 12;
  bool per_token = false;
  std::int64_t batch = 32;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.beta, {.name = "beta", .help = "strength of the tie to the reference: small moves far, > 0"});
    v(c.label_smoothing,
      {.name = "label_smoothing", .help = "share of labels taken to be wrong, in [0, 0.5); dpo only"});
    v(c.labels, {.name = "labels",
                 .help = "which of a pair is preferred: hard (the higher reward), sampled (the first with probability "
                         "sigmoid of the rewards' difference, drawn once) or soft (both, with these probabilities)"});
    v(c.generations,
      {.name = "generations", .help = "pairs are of a prompt's first so many samples; 0: of all", .unit = "samples"});
    v(c.pairs,
      {.name = "pairs", .help = "of them at most so many a prompt, chosen at random; 0: all", .unit = "pairs"});
    v(c.per_token,
      {.name = "per_token", .help = "divide a response's log ratio by its length, as some implementations of ipo do"});
    v(c.batch, {.name = "batch", .help = "pairs an update", .unit = "pairs"});
  }
};

struct BonbonSection {
  std::optional<double> alpha;
  std::int64_t pairs = 1;
  std::int64_t batch = 32;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.alpha, {.name = "alpha",
                .help = "weight of -log pi(best) against the squared margin, in [0, 1]; none or auto: so that the "
                        "two are equal at the reference"});
    v(c.pairs,
      {.name = "pairs", .help = "disjoint sets of N samples a prompt; 0: as many as there are", .unit = "pairs"});
    v(c.batch, {.name = "batch", .help = "pairs an update", .unit = "pairs"});
  }
};

// What is wrong, one message a fault; empty: the section can be used.
std::vector<std::string> problems(const RegressionSection& config);
std::vector<std::string> problems(const InfoncaSection& config);
std::vector<std::string> problems(const BonSftSection& config);
std::vector<std::string> problems(const PreferenceSection& config);
std::vector<std::string> problems(const BonbonSection& config);

}  // namespace vbon
