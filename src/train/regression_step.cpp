// Regression on the pool: (log pi/pi_ref - log w_N)^2 over its samples, without sampling, critic or advantages.
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "train/learner_common.hpp"
#include "vbon/base/rng.hpp"
#include "vbon/model/vocab_head.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

// Sample numbers (row * M + m) of update `update`: consecutive parts of keyed permutations of the whole pool.
std::vector<std::int64_t> members_of(const Settings& settings, std::int64_t pool_size, std::int64_t update) {
  const std::int64_t batch = std::min(settings.regression.batch, pool_size);
  const std::int64_t per_epoch = pool_size / batch, epoch = update / per_epoch, part = update % per_epoch;
  const RandomStream stream(static_cast<std::uint64_t>(*settings.run.seed), Purpose::data_order, 0, epoch);
  const std::vector<std::int64_t> order = permutation(stream, pool_size);
  return {order.begin() + part * batch, order.begin() + (part + 1) * batch};
}

}  // namespace

Metrics regression_step(LearnerState& state, const LearnerTools& tools, const Pool& pool, const LogFTable& table,
                        std::int64_t update, std::int64_t total_updates) {
  const Settings& settings = tools.settings;
  const Phases::Scope scope(tools.phases, Phase::update, tools.learners.group().waiter());
  const std::int64_t per_prompt = pool.header.num_samples;
  const std::vector<std::int64_t> members = members_of(settings, pool.block.num_prompts() * per_prompt, update);
  const auto batch = static_cast<double>(members.size());
  const Share mine = share_of(static_cast<std::int64_t>(members.size()), tools.learners.rank(), tools.learners.size());
  const double n = target_n(settings.vbon);

  std::vector<Sequence> sequences;
  std::vector<double> target, logp_reference;
  std::vector<std::int64_t> prompt_ids;
  for (std::int64_t i = mine.begin; i < mine.end; ++i) {
    const std::int64_t row = members[idx(i)] / per_prompt, sample = members[idx(i)] % per_prompt;
    sequences.push_back({pool.block.prompts.tokens_of(row), pool.block.samples.tokens_of(row, sample)});
    const float reward = pool.block.rewards.at("main")[idx(members[idx(i)])];
    target.push_back(log_weight(n, table.of_own(row, reward)));
    logp_reference.push_back(pool.block.samples.logp_reference[idx(members[idx(i)])]);
    prompt_ids.push_back(pool.block.prompts.id[idx(row)]);
  }

  BatchPass pass(*state.reference, state.policy, sequences, {settings.sampling.temperature, settings.train.micro_batch, 0});
  std::vector<std::int64_t> all(sequences.size());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int64_t>(i);
  std::array<double, 5> sums{};  // squared residual, |residual|, clipped, log ratio, tokens
  for (const auto& group : pass.split(all)) {
    const BatchPass::Micro micro = pass.micro(group);
    const TokenStatistics stats = token_statistics(pass.policy_hidden(micro), state.policy.model.head, micro.packed.targets,
                                                   settings.sampling.temperature);
    // The gradient with respect to each sequence's log-probability is 2 clip(residual) / batch: a weight a token.
    std::vector<float> weight(idx(micro.packed.offset.back()));
    const at::Tensor logp = stats.logp.detach().cpu();
    for (std::size_t k = 0; k < group.size(); ++k) {
      const std::int64_t begin = micro.packed.offset[k], count = micro.packed.offset[k + 1] - begin;
      const double log_ratio =
          logp.narrow(0, begin, count).sum(at::kDouble).item<double>() - logp_reference[idx(group[k])];
      const double residual = log_ratio - target[idx(group[k])];
      const double limit = settings.regression.clip_residual;
      const double clipped = limit > 0 ? std::clamp(residual, -limit, limit) : residual;
      std::fill_n(weight.begin() + begin, count, static_cast<float>(2.0 * clipped / batch));
      sums[0] += residual * residual;
      sums[1] += std::abs(residual);
      sums[2] += clipped != residual ? 1 : 0;
      sums[3] += log_ratio;
      sums[4] += static_cast<double>(count);
    }
    (stats.logp * at::tensor(weight).to(stats.logp.device())).sum().backward();
  }
  OptimizerConfig optimizer = settings.optimizer;
  optimizer.learning_rate = settings.regression.learning_rate.value_or(optimizer.learning_rate);
  optimizer.warmup = settings.regression.warmup.value_or(optimizer.warmup);
  const double rate = learning_rate(optimizer, update, total_updates);
  const double norm = reduce_and_step(state, tools, rate, prompt_ids, fmt::format("regression update {}", update));
  sum_over_learners(tools, sums, "loss sums");
  return {{"loss", sums[0] / batch},          {"residual", sums[1] / batch}, {"residual_clipped", sums[2] / batch},
          {"log_ratio", sums[3] / batch},     {"grad_norm", norm},           {"learning_rate", rate},
          {"length", sums[4] / batch}};
}

}  // namespace vbon
