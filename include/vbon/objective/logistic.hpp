// The logistic function and its logarithms, from the side that cannot overflow; full relative precision in both tails.
#pragma once

#include <algorithm>
#include <cmath>

namespace vbon {

// log(1 + e^z)
inline double softplus(double z) { return std::max(z, 0.0) + std::log1p(std::exp(-std::abs(z))); }
// 1 / (1 + e^-z)
inline double sigmoid(double z) { return z >= 0 ? 1.0 / (1.0 + std::exp(-z)) : std::exp(z) / (1.0 + std::exp(z)); }
inline double log_sigmoid(double z) { return std::min(z, 0.0) - std::log1p(std::exp(-std::abs(z))); }

}  // namespace vbon
