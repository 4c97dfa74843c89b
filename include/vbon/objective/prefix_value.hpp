// What the reward of a response's beginning foretells of the whole: E[log w_N(response) | its first tokens], w_N the
// weight that Best-of-N gives a response of the reference.
//
// The change of this value over some tokens is the part of the response's log w_N that those tokens brought: the parts
// of a response add up to log w_N - E[log w_N], and each has mean 0 whatever came before. The conditional mean is not
// known; here it depends on the beginning through one number, the log w_N that the beginning itself would have as a
// response: at each cut a straight line in it, by least squares over the pool.
//
// (BoN's exact ratio of some tokens is the change of log E[w_N | beginning], not of E[log w_N | beginning]. But where
// little can be foretold, the logarithm of a mean lies far above the mean of the logarithms, and a policy fitted to its
// changes learns that to end a response costs log w_N: it stops ending them.)
#pragma once

#include <span>

namespace vbon {

struct PrefixLine {
  double intercept = 0;
  double slope = 0;  // in [0, 1]
  double r2 = 0;     // share of the variance of log w_N that it explains

  double value(double log_w_now) const { return intercept + slope * log_w_now; }
};

// `now`, `whole`: log w_N of beginnings and of the responses that they became, at one cut. Without pairs: zeros.
PrefixLine fit_prefix_line(std::span<const double> now, std::span<const double> whole);

}  // namespace vbon
