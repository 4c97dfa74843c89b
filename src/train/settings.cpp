#include "vbon/train/settings.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "train/problems.hpp"
#include "vbon/base/error.hpp"
#include "vbon/objective/bon.hpp"
#include "vbon/objective/ppo.hpp"
#include "vbon/objective/vbon.hpp"

namespace vbon {
std::span<const std::pair<Dtype, std::string_view>> enum_names(Dtype) {
  static constexpr std::array<std::pair<Dtype, std::string_view>, 2> kNames = {
      {{Dtype::f32, "f32"}, {Dtype::bf16, "bf16"}}};
  return kNames;
}

std::span<const std::pair<Reduce, std::string_view>> enum_names(Reduce) {
  static constexpr std::array<std::pair<Reduce, std::string_view>, 2> kNames = {
      {{Reduce::by_rank, "by_rank"}, {Reduce::fixed, "fixed"}}};
  return kNames;
}

std::span<const std::pair<SftLoss, std::string_view>> enum_names(SftLoss) {
  static constexpr std::array<std::pair<SftLoss, std::string_view>, 2> kNames = {
      {{SftLoss::response, "response"}, {SftLoss::whole, "whole"}}};
  return kNames;
}

bool has_anchor(const Settings& s) {
  return s.train.method == Method::jbond || (s.train.method == Method::bond && s.bond.quantile == BondQuantile::anchor);
}

std::int64_t anchor_samples(const Settings& s) { return has_anchor(s) ? s.anchor.samples : 0; }

bool needs_pool(const Settings& s) {
  const bool by_head = s.train.method == Method::vbon && s.amortised.weight && s.ppo.baseline != Baseline::prefix;
  return (s.train.method != Method::ppo && !has_anchor(s) && !by_head) || s.train.warm_start > 0;
}

bool reads_pool(const Settings& s) { return needs_pool(s) || !s.pool.path.empty(); }

double gradient_share(const Settings& settings) { return is_mixed(settings.train.method) ? settings.mixture.b : 1; }

Strength strength_of(const Settings& settings) {
  switch (traits(settings.train.method).aim) {
    case Aim::kl_coef: return {.beta = initial_kl_coef(settings.ppo)};
    case Aim::preference: return {.beta = settings.preference.beta};
    case Aim::anchor: return {};
    case Aim::weight:
    case Aim::best_of_n: break;
  }
  const double n = target_n(settings.vbon);
  return {.n = n, .beta = n > 1 ? beta_from_n(n) : 0};
}

double total_scale(const Settings& settings, const VbonConfig& target) {
  double more = 0;
  for (const auto& [name, reward] : settings.rewards) more += reward.n - 1;
  if (more == 0) return objective_scale(target);
  return target.scale.value_or(1 / (target_n(target) - 1 + more));
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

std::int64_t prefix_samples(const Settings& s) {
  return s.pool.prefix_samples > 0 ? s.pool.prefix_samples : s.pool.samples;
}

std::vector<std::string> problems(const PoolSection& s) {
  Problems p;
  p.unless(s.samples >= 2, "pool.samples is {}; F needs at least 2 samples a prompt", s.samples);
  p.unless(s.use == 0 || s.use >= 2, "pool.use is {}; use at least 2 samples (or 0 for all)", s.use);
  p.unless(s.prefix_every >= 0, "pool.prefix_every is {}; it must not be negative", s.prefix_every);
  p.unless(0 <= s.prefix_samples && s.prefix_samples <= s.samples,
           "pool.prefix_samples is {}; it must be between 0 (all) and pool.samples, {}", s.prefix_samples, s.samples);
  p.unless(s.chunk_prompts >= 0, "pool.chunk_prompts is {}; it must not be negative", s.chunk_prompts);
  return p.take();
}

std::vector<std::string> problems(const SftSection& s) {
  Problems p;
  p.add(problems(s.optimizer, "sft.optimizer"));
  p.unless(s.epochs >= 1, "sft.epochs is {}; at least 1 is needed", s.epochs);
  p.unless(s.batch >= 1, "sft.batch is {}; at least 1 is needed", s.batch);
  p.unless(s.micro_batch >= 1, "sft.micro_batch is {}; at least 1 is needed", s.micro_batch);
  p.unless(s.max_length >= 2, "sft.max_length is {}; at least 2 tokens are needed", s.max_length);
  p.unless(s.max_texts >= 0, "sft.max_texts is {}; it must not be negative", s.max_texts);
  p.unless(s.max_heldout >= 0, "sft.max_heldout is {}; it must not be negative", s.max_heldout);
  return p.take();
}

namespace {

std::vector<std::string> whole_n(const Settings& s) {
  if (!problems(s.vbon).empty()) return {};
  const double n = target_n(s.vbon);
  if (n == std::round(n)) return {};
  return {fmt::format("vbon.N is {}, but method {} takes the best of a whole number of samples: give an integer N", n,
                      enum_name(s.train.method))};
}

}  // namespace

Settings for_evaluation(const Settings& settings, const std::string& name) {
  const auto found = settings.evaluations.find(name);
  check(found != settings.evaluations.end(), "for_evaluation: no such evaluation");
  const EvaluationSection& one = found->second;
  Settings s = settings;
  if (!one.prompts.empty()) s.prompts.eval = one.prompts;
  if (one.temperature) s.sampling.temperature = *one.temperature;
  if (one.samples > 0) s.eval.samples = one.samples;
  s.pool.eval_path = one.pool;
  s.eval.exact = false;
  s.evaluations.clear();
  return s;
}

std::vector<std::string> evaluation_problems(const Settings& s) {
  Problems p;
  for (const auto& [name, one] : s.evaluations) {
    p.unless(name != kMainEvaluation && name != "step" && name != "reference" && name != "chunks",
             "evaluations.{}: that name is taken; choose another", name);
    p.unless(!one.pool.empty(), "evaluations.{}.pool has to be set: where its reference samples lie", name);
    p.unless(one.pool.empty() || (one.pool != s.pool.path && one.pool != s.pool.eval_path),
             "evaluations.{}.pool is the pool of other prompts; give it a file of its own", name);
    p.unless(!one.temperature || (std::isfinite(*one.temperature) && *one.temperature > 0),
             "evaluations.{}.temperature is {}; it must be positive", name, one.temperature.value_or(0));
    p.unless(one.samples >= 0, "evaluations.{}.samples is {}; it must not be negative", name, one.samples);
  }
  return p.take();
}

std::vector<std::string> more_reward_problems(const Settings& s) {
  Problems p;
  for (const auto& [name, one] : s.rewards) {
    p.unless(name != "main" && name != "evaluator", "rewards.{}: that name is taken; choose another", name);
    p.unless(std::isfinite(one.n) && one.n >= 1, "rewards.{}.N is {}; it must be a number from 1 on", name, one.n);
    p.add(problems(one.reward, "rewards." + name));
  }
  return p.take();
}

namespace {

std::vector<std::string> more_reward_method_problems(const Settings& s) {
  Problems p;
  if (s.rewards.empty()) return {};
  p.unless(takes_any_weight(s.train.method), "several rewards (section rewards) are for methods {}, not for {}",
           any_weight_methods(), enum_name(s.train.method));
  p.unless(s.vbon.objective != Objective::L1, "vbon.objective L1 is of one reward: choose exact or L");
  p.unless(s.vbon.target == Target::bon, "several rewards (section rewards) need vbon.target: bon");
  p.unless(s.vbon.n_steps == 0, "vbon.N_steps is a schedule of one reward: leave it out, or section rewards");
  p.unless(s.ppo.baseline != Baseline::prefix && s.regression.credit != Credit::prefix,
           "prefixes are scored by the main reward alone: choose another ppo.baseline and regression.credit: response, "
           "or leave out section rewards");
  return p.take();
}

}  // namespace

std::vector<std::string> problems(const Settings& s) {
  Problems p;
  p.unless(s.vbon.ties == Ties::uniform || takes_any_weight(s.train.method),
           "vbon.ties total_order is for methods {}, not for {}", any_weight_methods(), enum_name(s.train.method));
  p.add(problems(s.amortised));
  if (s.amortised.weight) {
    p.unless(takes_any_weight(s.train.method), "amortised.weight is for methods {}, not for {}", any_weight_methods(),
             enum_name(s.train.method));
    p.unless(s.vbon.estimator == Estimator::add_one,
             "amortised.weight takes the estimator's place: leave vbon.estimator at add_one");
    p.unless(s.vbon.ties == Ties::uniform,
             "amortised.weight has no order for equal rewards: leave vbon.ties at uniform");
    p.unless(s.rewards.empty(), "amortised.weight is of the main reward alone: leave out section rewards");
  }
  p.add(evaluation_problems(s));
  p.add(more_reward_problems(s));
  p.add(more_reward_method_problems(s));
  p.add(problems(s.sampling, /*allow_truncation=*/false));
  p.add(problems(s.optimizer));
  p.add(comm::problems_of(s.cluster));
  p.add(problems(s.pool));
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
  p.unless(s.cluster.lag == 0 || s.cluster.lag == 1, "cluster.lag is {}; it must be 0 (on-policy) or 1", s.cluster.lag);
  if (has_target_n(s.train.method) || s.train.warm_start > 0) p.add(problems(s.vbon));
  if (s.train.method == Method::bonbon || (s.train.method == Method::bon_sft && s.bon_sft.best == BestOf::drawn))
    p.add(whole_n(s));
  if (!is_offline(s.train.method))
    p.add(problems(s.ppo, s.train.method == Method::ppo ? LoopMethod::ppo : LoopMethod::vbon,
                   s.train.samples_per_prompt));
  p.unless(s.train.method != Method::vbon || s.ppo.baseline != Baseline::prefix || s.vbon.n_steps == 0,
           "vbon.N_steps changes what prefixes foretell: choose another ppo.baseline");
  p.unless(s.train.method == Method::vbon || s.vbon.n_steps == 0 || is_offline(s.train.method),
           "vbon.N_steps is a schedule of method vbon; method {} has none", enum_name(s.train.method));
  p.unless(traits(s.train.method).aim != Aim::best_of_n || s.vbon.target == Target::bon,
           "method {} learns from the best of N: vbon.target must be bon", enum_name(s.train.method));
  p.unless(!is_mixed(s.train.method) || s.vbon.objective == Objective::exact,
           "method {} mixes KL divergences, so vbon.objective must be exact", enum_name(s.train.method));
  p.unless(!is_mixed(s.train.method) || s.ppo.baseline != Baseline::prefix,
           "ppo.baseline prefix is for method vbon; choose another for {}", enum_name(s.train.method));
  p.unless(s.train.method != Method::jbond || s.anchor.samples == 2,
           "anchor.samples is {}, but method jbond compares with two anchor samples", s.anchor.samples);
  p.unless(s.bond.gamma >= 0, "bond.gamma is {}; it must not be negative", s.bond.gamma);
  p.unless(s.bond.gamma == 0 || (has_anchor(s) && s.mixture.b > 0),
           "bond.gamma weighs a KL to the anchor in the policy gradient: there is none here");
  p.add(problems(s.mixture));
  p.add(problems(s.anchor));
  p.add(problems(s.regression));
  p.add(problems(s.infonca));
  p.add(problems(s.bon_sft));
  p.add(problems(s.preference));
  p.add(problems(s.bonbon));
  p.unless(s.eval.samples >= 1, "eval.samples is {}; at least 1 is needed", s.eval.samples);
  p.unless(s.eval.every >= 0, "eval.every is {}; it must not be negative", s.eval.every);
  p.unless(s.eval.bootstrap >= 100, "eval.bootstrap is {}; at least 100 resamples are needed", s.eval.bootstrap);
  for (const double n : s.eval.bon_n) p.unless(n >= 1, "eval.bon_n holds {}; every N must be at least 1", n);
  p.unless(s.checkpoint.every >= 0, "checkpoint.every is {}; it must not be negative", s.checkpoint.every);
  p.unless(s.checkpoint.before_end_s >= 0, "checkpoint.before_end is {}; it must not be negative",
           s.checkpoint.before_end_s);
  p.unless(s.log.every_s > 0, "log.every_s is {}; it must be positive", s.log.every_s);
  return p.take();
}

}  // namespace vbon
