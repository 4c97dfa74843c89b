#include "vbon/train/settings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>

namespace vbon {
namespace {

class Problems {
 public:
  template <class... Args>
  void unless(bool good, fmt::format_string<Args...> text, Args&&... args) {
    if (!good) found_.push_back(fmt::format(text, std::forward<Args>(args)...));
  }
  void add(std::vector<std::string> more) { std::move(more.begin(), more.end(), std::back_inserter(found_)); }
  std::vector<std::string> take() { return std::move(found_); }

 private:
  std::vector<std::string> found_;
};

}  // namespace

std::span<const std::pair<Dtype, std::string_view>> enum_names(Dtype) {
  static constexpr std::array<std::pair<Dtype, std::string_view>, 2> kNames = {
      {{Dtype::f32, "f32"}, {Dtype::bf16, "bf16"}}};
  return kNames;
}

std::span<const std::pair<Method, std::string_view>> enum_names(Method) {
  static constexpr std::array<std::pair<Method, std::string_view>, 3> kNames = {
      {{Method::vbon, "vbon"}, {Method::ppo, "ppo"}, {Method::regression, "regression"}}};
  return kNames;
}

std::span<const std::pair<Credit, std::string_view>> enum_names(Credit) {
  static constexpr std::array<std::pair<Credit, std::string_view>, 2> kNames = {
      {{Credit::response, "response"}, {Credit::prefix, "prefix"}}};
  return kNames;
}

RegressionGroups regression_groups(const RegressionSection& config, std::int64_t samples_a_prompt) {
  const std::int64_t samples = std::min(config.samples_per_prompt, samples_a_prompt);
  return {.samples = samples, .an_update = std::max<std::int64_t>(1, config.batch / samples)};
}

std::int64_t train_chunk_prompts(const Settings& s) {
  if (s.train.chunk_prompts > 0) return s.train.chunk_prompts;
  constexpr std::int64_t kSequences = 64;
  return std::clamp<std::int64_t>(kSequences / std::max<std::int64_t>(1, s.train.samples_per_prompt), 1,
                                  std::max<std::int64_t>(1, s.train.prompts_per_step));
}

std::int64_t pool_chunk_prompts(const Settings& s) {
  if (s.pool.chunk_prompts > 0) return s.pool.chunk_prompts;
  return std::max<std::int64_t>(1, (2 * s.sampling.slots + s.pool.samples - 1) / s.pool.samples);
}

std::vector<std::string> problems(const SftSection& s) {
  Problems p;
  p.add(problems(s.optimizer, "sft.optimizer"));
  p.unless(s.epochs >= 1, "sft.epochs is {}; at least 1 is needed", s.epochs);
  p.unless(s.batch >= 1, "sft.batch is {}; at least 1 is needed", s.batch);
  p.unless(s.micro_batch >= 1, "sft.micro_batch is {}; at least 1 is needed", s.micro_batch);
  p.unless(s.max_length >= 2, "sft.max_length is {}; at least 2 tokens are needed", s.max_length);
  p.unless(s.max_texts >= 0, "sft.max_texts is {}; it must not be negative", s.max_texts);
  return p.take();
}

std::vector<std::string> problems(const Settings& s) {
  Problems p;
  p.add(problems(s.sampling, /*allow_truncation=*/false));
  p.add(problems(s.optimizer));
  p.add(comm::problems_of(s.cluster));
  p.unless(s.pool.samples >= 2, "pool.samples is {}; F needs at least 2 samples a prompt", s.pool.samples);
  p.unless(s.pool.use == 0 || s.pool.use >= 2, "pool.use is {}; use at least 2 samples (or 0 for all)", s.pool.use);
  p.unless(s.pool.chunk_prompts >= 0, "pool.chunk_prompts is {}; it must not be negative", s.pool.chunk_prompts);
  p.unless(s.train.steps >= 1, "train.steps is {}; at least 1 is needed", s.train.steps);
  p.unless(s.train.prompts_per_step >= 1, "train.prompts_per_step is {}; at least 1 is needed",
           s.train.prompts_per_step);
  p.unless(s.train.samples_per_prompt >= 1, "train.samples_per_prompt is {}; at least 1 is needed",
           s.train.samples_per_prompt);
  p.unless(s.train.micro_batch >= 1, "train.micro_batch is {}; at least 1 is needed", s.train.micro_batch);
  p.unless(s.train.chunk_prompts >= 0, "train.chunk_prompts is {}; it must not be negative", s.train.chunk_prompts);
  p.unless(s.train.minibatches >= 1 && s.train.minibatches <= s.train.prompts_per_step * s.train.samples_per_prompt,
           "train.minibatches is {}; it must lie between 1 and the {} sequences of a step", s.train.minibatches,
           s.train.prompts_per_step * s.train.samples_per_prompt);
  p.unless(s.train.warm_start >= 0 && s.train.warm_start <= s.train.steps,
           "train.warm_start is {}; it must lie between 0 and train.steps ({})", s.train.warm_start, s.train.steps);
  p.unless(s.train.reference_cache_mib >= 0, "train.reference_cache_mib is {}; it must not be negative",
           s.train.reference_cache_mib);
  p.unless(s.cluster.lag == 0, "cluster.lag is {}; only 0 (on-policy) is available yet", s.cluster.lag);
  if (s.train.method != Method::ppo || s.train.warm_start > 0) p.add(problems(s.vbon));
  if (s.train.method != Method::regression)
    p.add(problems(s.ppo, s.train.method == Method::vbon ? LoopMethod::vbon : LoopMethod::ppo,
                   s.train.samples_per_prompt));
  p.unless(s.pool.prefix_every >= 0, "pool.prefix_every is {}; it must not be negative", s.pool.prefix_every);
  p.unless(s.regression.samples_per_prompt >= 1, "regression.samples_per_prompt is {}; at least 1 is needed",
           s.regression.samples_per_prompt);
  p.unless(!s.regression.center || s.regression.samples_per_prompt >= 2,
           "regression.center needs 2 or more regression.samples_per_prompt");
  p.unless(s.regression.batch % std::max<std::int64_t>(s.regression.samples_per_prompt, 1) == 0,
           "regression.batch ({}) is not a multiple of regression.samples_per_prompt ({})", s.regression.batch,
           s.regression.samples_per_prompt);
  p.unless(s.regression.batch >= 1, "regression.batch is {}; at least 1 is needed", s.regression.batch);
  p.unless(s.regression.clip_residual >= 0, "regression.clip_residual is {}; it must not be negative",
           s.regression.clip_residual);
  p.unless(s.eval.samples >= 1, "eval.samples is {}; at least 1 is needed", s.eval.samples);
  p.unless(s.eval.every >= 0, "eval.every is {}; it must not be negative", s.eval.every);
  p.unless(s.eval.bootstrap >= 100, "eval.bootstrap is {}; at least 100 resamples are needed", s.eval.bootstrap);
  for (const double n : s.eval.bon_n) p.unless(n >= 1, "eval.bon_n holds {}; every N must be at least 1", n);
  p.unless(s.checkpoint.every >= 0, "checkpoint.every is {}; it must not be negative", s.checkpoint.every);
  p.unless(s.log.every_s > 0, "log.every_s is {}; it must be positive", s.log.every_s);
  return p.take();
}

}  // namespace vbon
