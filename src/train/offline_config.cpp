#include "vbon/train/offline_config.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "train/problems.hpp"

namespace vbon {

std::span<const std::pair<Credit, std::string_view>> enum_names(Credit) {
  static constexpr std::array<std::pair<Credit, std::string_view>, 2> kNames = {
      {{Credit::response, "response"}, {Credit::prefix, "prefix"}}};
  return kNames;
}

std::span<const std::pair<BestOf, std::string_view>> enum_names(BestOf) {
  static constexpr std::array<std::pair<BestOf, std::string_view>, 2> kNames = {
      {{BestOf::weighted, "weighted"}, {BestOf::drawn, "drawn"}}};
  return kNames;
}

std::span<const std::pair<Labels, std::string_view>> enum_names(Labels) {
  static constexpr std::array<std::pair<Labels, std::string_view>, 3> kNames = {
      {{Labels::hard, "hard"}, {Labels::sampled, "sampled"}, {Labels::soft, "soft"}}};
  return kNames;
}

namespace {

// A batch of groups of one prompt's samples.
std::vector<std::string> group_problems(std::string_view section, std::int64_t batch, std::int64_t samples_per_prompt) {
  Problems p;
  p.unless(samples_per_prompt >= 1, "{}.samples_per_prompt is {}; at least 1 is needed", section, samples_per_prompt);
  p.unless(batch % std::max<std::int64_t>(samples_per_prompt, 1) == 0,
           "{}.batch ({}) is not a multiple of {}.samples_per_prompt ({})", section, batch, section,
           samples_per_prompt);
  p.unless(batch >= 1, "{}.batch is {}; at least 1 is needed", section, batch);
  return p.take();
}

}  // namespace

std::vector<std::string> problems(const RegressionSection& c) {
  Problems p;
  p.add(group_problems("regression", c.batch, c.samples_per_prompt));
  p.unless(!c.center || c.samples_per_prompt >= 2, "regression.center needs 2 or more regression.samples_per_prompt");
  p.unless(c.clip_residual >= 0, "regression.clip_residual is {}; it must not be negative", c.clip_residual);
  p.unless(std::isfinite(c.importance) && c.importance >= 0, "regression.importance is {}; it must not be negative",
           c.importance);
  return p.take();
}

std::vector<std::string> problems(const InfoncaSection& c) {
  Problems p;
  p.add(group_problems("infonca", c.batch, c.samples_per_prompt));
  p.unless(c.samples_per_prompt >= 2, "infonca.samples_per_prompt is {}; 2 or more are needed to tell apart",
           c.samples_per_prompt);
  return p.take();
}

std::vector<std::string> problems(const BonSftSection& c) {
  Problems p;
  p.unless(c.batch >= 1, "bon_sft.batch is {}; at least 1 is needed", c.batch);
  return p.take();
}

std::vector<std::string> problems(const PreferenceSection& c) {
  Problems p;
  p.unless(c.beta > 0 && std::isfinite(c.beta), "preference.beta is {}; it must be finite and > 0", c.beta);
  p.unless(c.label_smoothing >= 0 && c.label_smoothing < 0.5,
           "preference.label_smoothing is {}; it must lie in [0, 0.5)", c.label_smoothing);
  p.unless(c.generations == 0 || c.generations >= 2, "preference.generations is {}; a pair needs 2 (0: all samples)",
           c.generations);
  p.unless(c.pairs >= 0, "preference.pairs is {}; it must not be negative", c.pairs);
  p.unless(c.batch >= 1, "preference.batch is {}; at least 1 is needed", c.batch);
  return p.take();
}

std::vector<std::string> problems(const BonbonSection& c) {
  Problems p;
  p.unless(!c.alpha || (*c.alpha >= 0 && *c.alpha <= 1), "bonbon.alpha is {}; it must lie in [0, 1]",
           c.alpha.value_or(0));
  p.unless(c.pairs >= 0, "bonbon.pairs is {}; it must not be negative", c.pairs);
  p.unless(c.batch >= 1, "bonbon.batch is {}; at least 1 is needed", c.batch);
  return p.take();
}

}  // namespace vbon
