#include "vbon/reward/reward_config.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <iterator>

#include "vbon/base/error.hpp"
#include "vbon/base/words.hpp"

namespace vbon {
namespace {

class Problems {
 public:
  explicit Problems(std::string_view section) : section_(section) {}
  template <class... Args>
  void unless(bool good, std::string_view key, fmt::format_string<Args...> text, Args&&... args) {
    if (!good) found_.push_back(fmt::format("{}.{} {}", section_, key, fmt::format(text, std::forward<Args>(args)...)));
  }
  std::vector<std::string> take() { return std::move(found_); }

 private:
  std::string section_;
  std::vector<std::string> found_;
};

bool positive(double value) { return value > 0 && std::isfinite(value); }

void check_shapes(Problems& p, const RewardConfig& c) {
  p.unless(!c.append_eos || c.kind == RewardKind::classifier, "append_eos",
           "is set, but kind is {}: it is for classifier", enum_name(c.kind));
  p.unless(c.batch >= 1 && c.batch <= 65536, "batch", "is {}; it must be in 1 … 65536", c.batch);
  p.unless(c.max_length >= 3, "max_length", "is {}; it must be at least 3 (special tokens count)", c.max_length);
}

}  // namespace

std::span<const std::pair<RewardKind, std::string_view>> enum_names(RewardKind) {
  static constexpr std::array<std::pair<RewardKind, std::string_view>, 3> kNames = {
      {{RewardKind::classifier, "classifier"}, {RewardKind::ngram, "ngram"}, {RewardKind::exec, "exec"}}};
  return kNames;
}

std::span<const std::pair<RewardOutput, std::string_view>> enum_names(RewardOutput) {
  static constexpr std::array<std::pair<RewardOutput, std::string_view>, 3> kNames = {
      {{RewardOutput::log_prob, "log_prob"}, {RewardOutput::prob, "prob"}, {RewardOutput::logit, "logit"}}};
  return kNames;
}

std::span<const std::pair<NgramKind, std::string_view>> enum_names(NgramKind) {
  static constexpr std::array<std::pair<NgramKind, std::string_view>, 2> kNames = {
      {{NgramKind::naive_bayes, "naive_bayes"}, {NgramKind::logistic, "logistic"}}};
  return kNames;
}

RewardLayers RewardLayers::parse(std::string_view text) {
  text = trimmed(text);
  if (text == "all") return {kAll};
  if (text == "head") return {0};
  if (text.starts_with("last ")) {
    const std::string_view number = trimmed(text.substr(5));
    std::int64_t last = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), last);
    if (error == std::errc() && end == number.data() + number.size() && last >= 1) return {last};
  }
  throw UserError("'{}' is no choice of layers; write `head`, `last K` with K >= 1, or `all`", text);
}

std::string RewardLayers::text() const {
  return last == kAll ? "all" : last == 0 ? "head" : fmt::format("last {}", last);
}

std::vector<std::string> problems(const RewardConfig& c, std::string_view section) {
  Problems p(section);
  const bool exec = c.kind == RewardKind::exec;
  p.unless(exec || !c.path.empty(), "path", "is missing: give the folder of the model (`vbon reward` writes one)");
  p.unless(!exec || !c.command.empty(), "command", "is missing: kind exec needs a program and its arguments");
  p.unless(!exec || !c.id.empty(), "id", "is missing: kind exec needs a name for this version of the program");
  p.unless(exec || c.command.empty(), "command", "is given, but kind is {}: write `kind: exec`", enum_name(c.kind));
  p.unless(c.round >= 0 && c.round <= 1, "round", "is {}; it must be in [0, 1]", c.round);
  p.unless(positive(c.timeout_s), "timeout_s", "is {}; it must be > 0", c.timeout_s);
  p.unless(c.startup_s >= 0 && std::isfinite(c.startup_s), "startup_s", "is {}; it must be >= 0", c.startup_s);
  check_shapes(p, c);
  return p.take();
}

std::vector<std::string> training_problems(const RewardConfig& c, std::string_view section) {
  Problems p(section);
  const RewardTrainConfig& t = c.train;
  const NgramConfig& n = t.ngram;
  p.unless(c.kind != RewardKind::exec, "kind", "is exec: a program of yours is not trained here");
  p.unless(!c.path.empty(), "path", "is missing: the folder that the model is written to");
  p.unless(!t.labels.empty(), "train.labels", "is missing: JSON Lines of labelled texts or pairs to learn from");
  check_shapes(p, c);
  if (c.kind == RewardKind::classifier) {
    p.unless(!t.base.empty(), "train.base", "is missing: the folder of the model to start from");
    p.unless(t.epochs >= 1, "train.epochs", "is {}; it must be at least 1", t.epochs);
    p.unless(t.batch >= 1, "train.batch", "is {}; it must be at least 1", t.batch);
    p.unless(t.micro_batch >= 1, "train.micro_batch", "is {}; it must be at least 1", t.micro_batch);
    p.unless(positive(t.learning_rate) && t.learning_rate < 10, "train.learning_rate", "is {}; it must be in (0, 10)",
             t.learning_rate);
    p.unless(t.weight_decay >= 0 && std::isfinite(t.weight_decay), "train.weight_decay", "is {}; it must be >= 0",
             t.weight_decay);
    p.unless(t.warmup >= 0, "train.warmup", "is {}; it must be >= 0", t.warmup);
    p.unless(t.center >= 0 && std::isfinite(t.center), "train.center", "is {}; it must be >= 0", t.center);
    p.unless(t.clip_norm >= 0, "train.clip_norm", "is {}; it must be >= 0", t.clip_norm);
  }
  if (c.kind == RewardKind::ngram) {
    p.unless(n.order >= 1 && n.order <= 5, "train.ngram.order", "is {}; it must be in 1 … 5", n.order);
    p.unless(n.prefix >= 0 && n.prefix <= 100, "train.ngram.prefix", "is {}; it must be in 0 … 100", n.prefix);
    p.unless(n.min_count >= 1, "train.ngram.min_count", "is {}; it must be at least 1", n.min_count);
    p.unless(positive(n.smoothing), "train.ngram.smoothing", "is {}; it must be > 0", n.smoothing);
    p.unless(positive(n.l2), "train.ngram.l2", "is {}; it must be > 0", n.l2);
  }
  return p.take();
}

}  // namespace vbon
