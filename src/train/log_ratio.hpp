// What offline losses know of a whole response: sums over its tokens, in nats.
#pragma once

#include <numeric>

#include "vbon/store/samples.hpp"
#include "vbon/train/pool_step.hpp"

namespace vbon {

// log pi of the response.
inline double response_logp(const PoolLoss::Sample& sample) {
  return std::accumulate(sample.logp.begin(), sample.logp.end(), 0.0);
}

// log pi/pi_ref of it; `samples`: the pool's.
inline double response_log_ratio(const PoolLoss::Sample& sample, const SampleRows& samples) {
  return response_logp(sample) - samples.logp_reference[static_cast<std::size_t>(sample.index)];
}

}  // namespace vbon
