#include "vbon/train/learner.hpp"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>

#include "train/learner_common.hpp"
#include "vbon/base/error.hpp"
#include "vbon/objective/ppo.hpp"
#include "vbon/objective/stats.hpp"

namespace vbon {

std::unique_ptr<LearnerState> make_learner(const CausalLm& reference, const Settings& settings,
                                           comm::Collectives& learners) {
  const DataParallelOptions options = data_parallel_options(settings);
  auto state = std::make_unique<LearnerState>();
  state->reference = &reference;
  state->policy = make_policy(reference, settings.train.layers);
  const bool online = !is_offline(settings.train.method);
  state->policy.model.recompute = settings.train.recompute;
  state->critic = make_critic(online ? settings.ppo.baseline : Baseline::none, reference, settings.train.layers);
  state->critic.model.model.recompute = settings.train.recompute;
  std::vector<NamedParameter> parameters = trained_parameters(state->policy);
  const std::size_t of_policy = parameters.size();
  for (NamedParameter& p : trained_parameters(state->critic)) parameters.push_back(p);
  state->parameters =
      FlatParameters(parameters, FlatParameters::Gradients::kept, DataParallel::multiple(options, learners.size()));
  state->policy_size = state->parameters.size_of_first(of_policy);
  tie_again(state->policy.model);
  if (state->critic.kind == Baseline::critic_model) tie_again(state->critic.model.model);
  state->parallel = std::make_unique<DataParallel>(state->parameters, settings.optimizer, learners, options);
  state->kl_coef = initial_kl_coef(settings.ppo);
  if (has_anchor(settings)) state->anchor = make_policy_copy(reference, settings.train.layers);
  return state;
}

void move_anchor(LearnerState& state, double rate) {
  const at::NoGradGuard no_grad;
  at::Tensor& anchor = state.anchor->parameters.values();
  anchor.lerp_(state.parameters.values().narrow(0, 0, state.policy_size), rate);
  state.anchor->parameters.refresh();
}

std::int64_t updates_per_step(const Settings& settings) { return settings.ppo.epochs * settings.train.minibatches; }

DataParallelOptions data_parallel_options(const Settings& settings) {
  return {.bucket_mib = settings.cluster.bucket_mib,
          .sharded = settings.cluster.shard_optimizer,
          .fixed = settings.run.reduce == Reduce::fixed};
}

double reduce_and_step(LearnerState& state, double learning_rate, std::span<const std::int64_t> prompt_ids,
                       const std::string& where) {
  const double norm = state.parallel->reduce();
  if (!std::isfinite(norm)) {
    const std::set<std::int64_t> prompts(prompt_ids.begin(), prompt_ids.end());
    const auto shown = std::min<std::ptrdiff_t>(std::ssize(prompts), 8);
    throw UserError(
        "the gradient is not finite in {} (prompts {}{}): training has diverged; lower optimizer.learning_rate or "
        "look at these prompts. The last checkpoint stands",
        where, fmt::join(prompts.begin(), std::next(prompts.begin(), shown), ", "),
        std::ssize(prompts) > shown ? ", …" : "");
  }
  state.parallel->apply(learning_rate);
  return norm;
}

}  // namespace vbon
