#include "vbon/objective/bond.hpp"

#include <algorithm>
#include <cmath>

#include "vbon/base/error.hpp"
#include "vbon/objective/bon.hpp"

namespace vbon {

double bond_reward(const Quantiles& quantiles, double n, bool with_collisions) {
  check(quantiles.f > 0 && n >= 1, "F > 0, N >= 1");
  return with_collisions ? log_bon_weight(quantiles.f_strict, quantiles.f, n) : (n - 1) * std::log(quantiles.f);
}

double jbond_reward(float reward, float anchor_a, float anchor_b) {
  return reward < std::min(anchor_a, anchor_b) ? -std::log(16.0) : 0.0;
}

}  // namespace vbon
