#include "vbon/objective/vbon.hpp"

#include <cmath>

#include "vbon/base/error.hpp"
#include "vbon/objective/bon.hpp"
#include "vbon/objective/tilt.hpp"

namespace vbon {

ObjectiveNats objective_nats(Objective objective, double n, double log_w, double log_f_strict) {
  check(n >= 1.0, "N >= 1");
  if (n == 1.0) return {};
  switch (objective) {
    case Objective::exact: return {.reward = log_w, .kl = 1.0};
    case Objective::L: return {.reward = (n - 1.0) * log_f_strict, .kl = 1.0};
    case Objective::L1:
      check(n == std::round(n), "L1 with integer N");
      return {.reward = n * (n - 1.0) / 2.0 * log_f_strict,
              .kl = n * (n + 1.0) / 2.0,
              .entropy = (n + 2.0) * (n - 1.0) / 2.0};
  }
  throw InternalError("unknown objective");
}

ObjectiveNats objective_nats(const VbonConfig& config, const LogF& sample) {
  return objective_nats(config.objective, target_n(config), log_weight(config, sample), sample.log_f);
}

double objective_scale(const VbonConfig& config) {
  const double n = target_n(config);
  if (n == 1.0) return 0.0;
  return config.scale.value_or(beta_from_n(n));
}

ObjectiveNats scaled_objective(const VbonConfig& config, const LogF& sample) {
  const double scale = objective_scale(config);
  const ObjectiveNats nats = objective_nats(config, sample);
  return {.reward = scale * nats.reward, .kl = scale * nats.kl, .entropy = scale * nats.entropy};
}

double log_weight(const VbonConfig& config, const LogF& sample) {
  return log_tilt_weight(config.target, sample.exact.f_strict, sample.exact.f, target_n(config));
}

double kl_to_bon(double kl_to_reference, double mean_log_w) { return kl_to_reference - mean_log_w; }

double kl_to_bon_untied(double kl_to_reference, double mean_log_f, double n) {
  return kl_to_reference - (n - 1.0) * mean_log_f - std::log(n);
}

}  // namespace vbon
