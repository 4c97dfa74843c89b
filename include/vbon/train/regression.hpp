// Targets of the regression on the pool (QRPO's loss with w_N for a reward): log pi/pi_ref is fitted to log w_N,
// without sampling.
//
// centred (regression.center): the mean over a prompt's samples is taken off the residuals, the log-variance loss. Its
// optimum is the same, pi_bon; but a policy that cannot tell the samples apart then stays at the reference, where plain
// squares would make it give all of them the mean of log w_N, which is below 0: divergence that buys nothing.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "vbon/objective/log_f.hpp"
#include "vbon/store/pool.hpp"
#include "vbon/train/offline_config.hpp"
#include "vbon/train/reward_ranks.hpp"

namespace vbon {

// log pi/pi_ref that some of a response's tokens should have together.
struct TargetSegment {
  std::int32_t end = 0;       // one past its last token; it begins where the one before ended, or at 0
  double log_ratio = 0;       // nats
  double logp_reference = 0;  // of its tokens
};

class RegressionTargets {
 public:
  // Of every sample of a pool whose table is `table`. One segment a response; for Credit::prefix one between any two
  // cuts of the pool's prefixes (prefixes.hpp), whose log ratios add up to log w less its mean over the pool.
  // UserError if the pool has none.
  // `more`: log w_N of these rewards is added (Credit::response alone).
  RegressionTargets(const Pool& pool, const LogFTable& table, const VbonConfig& target, Credit credit,
                    std::span<const MoreTable> more = {});

  std::span<const TargetSegment> of(std::int64_t sample) const;  // row * M + m
  double log_w(std::int64_t sample) const { return log_w_[static_cast<std::size_t>(sample)]; }

 private:
  std::vector<TargetSegment> segments_;
  std::vector<double> log_w_;       // of each sample
  std::vector<std::size_t> first_;  // of each sample, and the end
};

}  // namespace vbon
