#include "train/method_objective.hpp"

#include "vbon/base/error.hpp"
#include "vbon/objective/bond.hpp"

namespace vbon {
double method_scale(const Settings& settings, const VbonConfig& vbon) {
  return has_target_n(settings.train.method) ? total_scale(settings, vbon) : 1;
}

ObjectiveNats method_objective(const Settings& settings, const VbonConfig& vbon, double kl_coef,
                               const ScoredSample& sample) {
  ObjectiveNats nats;
  switch (settings.train.method) {
    case Method::ppo: return {.reward = sample.reward, .kl = kl_coef};
    case Method::vbon:
    case Method::jeffreys:
      nats = objective_nats(vbon, *sample.log_f);
      if (!settings.rewards.empty()) nats = {.reward = nats.reward + sample.more_nats, .kl = 1};
      break;
    case Method::bond: {
      const Quantiles quantiles =
          sample.anchor != nullptr ? sample.anchor->quantiles(sample.prompt, sample.reward) : sample.log_f->exact;
      const bool full = settings.bond.reward == BondReward::full;
      nats = {.reward = bond_reward(quantiles, target_n(vbon), full), .kl = 1};
      break;
    }
    case Method::jbond: {
      const std::span<const float> of_anchor = sample.anchor->rewards(sample.prompt);
      nats = {.reward = jbond_reward(sample.reward, of_anchor[0], of_anchor[1]), .kl = 1};
      break;
    }
    default: throw InternalError("an offline method takes no online step");
  }
  // bond.gamma is a KL beside the mixture, of which this is the share b.
  if (sample.anchor != nullptr && settings.bond.gamma > 0) nats.kl += settings.bond.gamma / gradient_share(settings);
  const double scale = method_scale(settings, vbon);
  return {.reward = scale * nats.reward, .kl = scale * nats.kl, .entropy = scale * nats.entropy};
}

}  // namespace vbon
