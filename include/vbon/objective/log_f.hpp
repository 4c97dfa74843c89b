// log F of a reward from a prompt's table: its M reference rewards, ascending, float32.
//
// With K_lt table rewards below r, and K_le not above r:
//
//   exact: the sample joins the table, F_strict = K_lt/(M+1), F = (K_le+1)/(M+1). Finite, and the mean of w_N over
//     samples exchangeable with the table is exactly 1. The objective `exact` uses this pair and nothing else.
//
//   add_one: log( (K_lt+1)/(M+1) ). Biased towards 0 in the lower tail; floor -log(M+1), ceiling 0.
//
//   harmonic: H_K - H_M with K = K_lt. Bias sum_{j>M} (1-F)^j / j, small and never negative; floor -H_M.
//
//   interpolated: log( (K_lt+u)/(M+1) ), u in (0, 1] the place of r between the two table rewards around it: the ECDF
//     with straight lines between order statistics. Above the last reward 1-u decays exponentially with the mean excess
//     of the top sqrt(M) rewards over the next (the maximum-likelihood exponential tail); below the first u does, to
//     1/(M+1).
//
//   exponential: -a exp(-b r), a, b > 0, fitted per prompt to (table reward, add_one) by least squares from the Gumbel
//     maximum-likelihood start. A table without two distinct rewards falls back to add_one.
//
// interpolated and exponential never go below -2 log(M+1): the table says nothing about what lies there.
// add_one, harmonic and exact see only ranks: any strictly increasing map of rewards leaves them bit-identical.
// The bounds L and L1 need log F_strict, which is what every estimator here estimates.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "vbon/objective/vbon_config.hpp"

namespace vbon {

struct TableCounts {
  std::int64_t lt = 0;  // table rewards before r
  std::int64_t le = 0;  // table rewards before r, or tied with it
};

// A quantile pair of the BoN weight.
struct Quantiles {
  double f_strict = 0;
  double f = 0;
};

struct LogF {
  double log_f = 0;         // by the estimator, strict
  Quantiles exact;          // for w_N
  bool at_floor = false;    // no table reward is below r
  bool at_ceiling = false;  // every table reward is below r
};

TableCounts count_in_table(std::span<const float> sorted, float reward);
// Counts under ties: total_order, over the pool's own samples (any order): token rows [M, width], lengths [M].
TableCounts count_in_total_order(std::span<const float> rewards, std::span<const std::int32_t> tokens,
                                 std::span<const std::int32_t> lengths, float reward,
                                 std::span<const std::int32_t> reward_tokens);

Quantiles exact_quantiles(TableCounts counts, std::int64_t num_samples);

// f(x) = -exp(log_scale - rate (x - centre)): the paper's -a exp(-b x) with b = rate, a = exp(log_scale + rate centre).
struct ExponentialFit {
  double log_scale = 0;
  double rate = 0;  // > 0; 0: not fitted (fall back to add_one)
  double centre = 0;
  double operator()(double x) const;
};
ExponentialFit fit_exponential(std::span<const float> sorted);

// The pool's samples behind a table, in the file's order: what a total order looks at where rewards tie.
struct OrderedSamples {
  std::span<const float> rewards;         // [P, M]
  std::span<const std::int32_t> tokens;   // [P, M, T]
  std::span<const std::int32_t> lengths;  // [P, M]
};

struct LogisticMixture;

// What a model of a prompt's rewards says beside the counts: a Beta prior worth `weight` samples, for
//   F_strict = (K_lt + weight F_strict_model) / (M + weight), and F likewise,
// which take the place of exact's pair and of the estimator (add_one). Neither is 0.
struct LogFPrior {
  std::vector<LogisticMixture> of_row;  // of each prompt of the table
  double weight = 0;                    // > 0
  double round = 0;                     // rewards are multiples of it
};

// Tables of P prompts: a view over rows [P, M] (the caller keeps them alive) with what an estimator needs per prompt.
class LogFTable {
 public:
  // Throws UserError unless every row is finite and ascending.
  LogFTable(std::span<const float> sorted_rewards, std::int64_t num_prompts, Estimator estimator);

  void set_prior(LogFPrior prior);
  // Ties are broken by the order of appendix C from now on; the samples stay the caller's.
  void set_total_order(const OrderedSamples& samples) { samples_ = samples; }

  std::int64_t num_prompts() const { return num_prompts_; }
  std::int64_t num_samples() const { return num_samples_; }
  std::span<const float> row(std::int64_t prompt) const;

  // Of a new sample's reward; `counts` where a total order breaks ties.
  // `response`: the sample's tokens, looked at under a total order alone.
  LogF of(std::int64_t prompt, float reward, std::span<const std::int32_t> response = {}) const;
  LogF of(std::int64_t prompt, float reward, TableCounts counts) const;
  // Of a reward that is one of the row's own M: against the other M - 1 (M >= 2). The counts include the sample itself
  // in le. The tail and exponential fits keep it: they are smooth in one sample of M.
  LogF of_own(std::int64_t prompt, float reward, std::span<const std::int32_t> response = {}) const;
  LogF of_own(std::int64_t prompt, float reward, TableCounts counts) const;

 private:
  struct Tails {
    double low = 0;   // scale below the first reward, in rewards
    double high = 0;  // above the last
  };
  struct Query;
  TableCounts count(std::int64_t prompt, float reward, std::span<const std::int32_t> response) const;
  LogF found(const Query& query) const;
  double estimate(const Query& query) const;
  double interpolated(const Query& query) const;

  std::span<const float> rewards_;
  std::int64_t num_prompts_;
  std::int64_t num_samples_;
  Estimator estimator_;
  std::vector<double> harmonic_;      // [M+1], H_0 .. H_M
  std::vector<Tails> tails_;          // [P], interpolated only
  std::vector<ExponentialFit> fits_;  // [P], exponential only
  std::shared_ptr<const LogFPrior> prior_;
  OrderedSamples samples_;  // of a total order; empty: uniform
};

}  // namespace vbon
