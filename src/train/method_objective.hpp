// Where the online loop picks what it maximises: one sample's share of E[reward] - kl KL - entropy H, scaled, by
// method.
#pragma once

#include "vbon/objective/vbon.hpp"
#include "vbon/train/imitation.hpp"
#include "vbon/train/settings.hpp"

namespace vbon {

// A sample as its method sees it; parts that a method does not need may be absent.
struct ScoredSample {
  float reward = 0;
  std::size_t prompt = 0;                 // which of the step's
  const LogF* log_f = nullptr;            // by the pool's table
  const AnchorSamples* anchor = nullptr;  // the KL is then to the anchor
  double more_nats = 0;                   // what rewards beside the main one add
};

// `vbon`: section vbon as it is at this step; `kl_coef`: of method ppo, as adapted.
ObjectiveNats method_objective(const Settings& settings, const VbonConfig& vbon, double kl_coef,
                               const ScoredSample& sample);

// What multiplies the objective in nats, and the imitated responses of a mixed method with it.
double method_scale(const Settings& settings, const VbonConfig& vbon);

}  // namespace vbon
