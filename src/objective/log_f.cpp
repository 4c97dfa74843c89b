#include "vbon/objective/log_f.hpp"

#include <algorithm>
#include <cmath>

#include "vbon/base/error.hpp"
#include "vbon/objective/bon.hpp"
#include "vbon/objective/logistic_mixture.hpp"

namespace vbon {

TableCounts count_in_table(std::span<const float> sorted, float reward) {
  check(std::isfinite(reward), "a finite reward");
  const auto [first, last] = std::equal_range(sorted.begin(), sorted.end(), reward);
  return {first - sorted.begin(), last - sorted.begin()};
}

TableCounts count_in_total_order(std::span<const float> rewards, std::span<const std::int32_t> tokens,
                                 std::span<const std::int32_t> lengths, float reward,
                                 std::span<const std::int32_t> reward_tokens) {
  check(!rewards.empty() && lengths.size() == rewards.size() && tokens.size() % rewards.size() == 0,
        "token rows and lengths of every sample");
  const std::size_t width = tokens.size() / rewards.size();
  TableCounts counts;
  for (std::size_t m = 0; m < rewards.size(); ++m) {
    check(lengths[m] >= 0 && static_cast<std::size_t>(lengths[m]) <= width, "a length within its row");
    const auto row = tokens.subspan(m * width, static_cast<std::size_t>(lengths[m]));
    const auto order = total_order(rewards[m], row, reward, reward_tokens);
    counts.lt += order < 0 ? 1 : 0;
    counts.le += order <= 0 ? 1 : 0;
  }
  return counts;
}

Quantiles exact_quantiles(TableCounts counts, std::int64_t num_samples) {
  check(0 <= counts.lt && counts.lt <= counts.le && counts.le <= num_samples, "0 <= K_lt <= K_le <= M");
  const double total = static_cast<double>(num_samples + 1);
  return {static_cast<double>(counts.lt) / total, static_cast<double>(counts.le + 1) / total};
}

// One look-up, already reduced to "against these `size` others": of() has size M, of_own() M - 1.
struct LogFTable::Query {
  std::int64_t prompt = 0;
  double reward = 0;
  TableCounts counts;     // among the others
  std::int64_t size = 0;  // how many others
  double below = 0;       // nearest reward before it among the others; valid where counts.lt > 0
  double above = 0;       // nearest reward not before it among the others; valid where counts.lt < size
};

LogFTable::LogFTable(std::span<const float> sorted_rewards, std::int64_t num_prompts, Estimator estimator)
    : rewards_(sorted_rewards), num_prompts_(num_prompts), num_samples_(0), estimator_(estimator) {
  check(
      num_prompts >= 1 && !sorted_rewards.empty() && sorted_rewards.size() % static_cast<std::size_t>(num_prompts) == 0,
      "a table of [P, M] rewards");
  num_samples_ = static_cast<std::int64_t>(sorted_rewards.size()) / num_prompts;
  for (std::int64_t p = 0; p < num_prompts; ++p) {
    const auto values = row(p);
    require(std::all_of(values.begin(), values.end(), [](float r) { return std::isfinite(r); }),
            "row {} of the log F table holds a reward that is not finite: score the pool again", p);
    require(std::is_sorted(values.begin(), values.end()),
            "row {} of the log F table is not ascending: the pool file is damaged, make it again", p);
  }
  harmonic_.resize(static_cast<std::size_t>(num_samples_) + 1);
  for (std::size_t k = 1; k < harmonic_.size(); ++k) harmonic_[k] = harmonic_[k - 1] + 1.0 / static_cast<double>(k);

  // Mean excess of the extreme k rewards over the next one; a table that ties there looks further in.
  const auto excess = [](std::span<const float> r, bool high) {
    const std::size_t m = r.size();
    const auto at = [&](std::size_t i) { return static_cast<double>(high ? r[m - 1 - i] : r[i]); };
    for (std::size_t k = std::max<std::size_t>(1, static_cast<std::size_t>(std::sqrt(static_cast<double>(m)))); k < m;
         ++k) {
      double sum = 0;
      for (std::size_t i = 0; i < k; ++i) sum += std::abs(at(i) - at(k));
      if (sum > 0) return sum / static_cast<double>(k);
    }
    return 0.0;
  };
  for (std::int64_t p = 0; p < num_prompts; ++p) {
    if (estimator == Estimator::interpolated) tails_.push_back({excess(row(p), false), excess(row(p), true)});
    if (estimator == Estimator::exponential) fits_.push_back(fit_exponential(row(p)));
  }
}

std::span<const float> LogFTable::row(std::int64_t prompt) const {
  check(0 <= prompt && prompt < num_prompts_, "a prompt of the table");
  return rewards_.subspan(static_cast<std::size_t>(prompt * num_samples_), static_cast<std::size_t>(num_samples_));
}

TableCounts LogFTable::count(std::int64_t prompt, float reward, std::span<const std::int32_t> response) const {
  if (samples_.rewards.empty()) return count_in_table(row(prompt), reward);
  check(!response.empty(), "a total order needs the response's tokens");
  const auto of_prompt = [&](auto all, std::int64_t width) {
    return all.subspan(static_cast<std::size_t>(prompt * num_samples_ * width),
                       static_cast<std::size_t>(num_samples_ * width));
  };
  const std::int64_t width = std::ssize(samples_.tokens) / std::ssize(samples_.rewards);
  return count_in_total_order(of_prompt(samples_.rewards, 1), of_prompt(samples_.tokens, width),
                              of_prompt(samples_.lengths, 1), reward, response);
}

LogF LogFTable::of(std::int64_t prompt, float reward, std::span<const std::int32_t> response) const {
  return of(prompt, reward, count(prompt, reward, response));
}

LogF LogFTable::of(std::int64_t prompt, float reward, TableCounts counts) const {
  check(std::isfinite(reward), "a finite reward");
  const auto values = row(prompt);
  const auto lt = static_cast<std::size_t>(counts.lt);
  Query query{.prompt = prompt, .reward = reward, .counts = counts, .size = num_samples_};
  if (lt > 0) query.below = values[lt - 1];
  if (lt < values.size()) query.above = values[lt];
  return found(query);
}

LogF LogFTable::of_own(std::int64_t prompt, float reward, std::span<const std::int32_t> response) const {
  return of_own(prompt, reward, count(prompt, reward, response));
}

LogF LogFTable::of_own(std::int64_t prompt, float reward, TableCounts counts) const {
  check(num_samples_ >= 2, "leave-one-out needs two samples");
  check(counts.lt < counts.le, "the sample itself among its own ties");
  const auto values = row(prompt);
  const auto lt = static_cast<std::size_t>(counts.lt);
  check(values[lt] == reward, "a reward of the row");
  Query query{.prompt = prompt, .reward = reward, .counts = {counts.lt, counts.le - 1}, .size = num_samples_ - 1};
  if (lt > 0) query.below = values[lt - 1];
  if (lt + 1 < values.size()) query.above = values[lt + 1];  // values[lt] is taken out as the sample itself
  return found(query);
}

void LogFTable::set_prior(LogFPrior prior) {
  check(prior.weight > 0 && std::ssize(prior.of_row) == num_prompts_, "a prior for every prompt of the table");
  prior_ = std::make_shared<const LogFPrior>(std::move(prior));
}

LogF LogFTable::found(const Query& q) const {
  LogF result;
  if (prior_ == nullptr) {
    result.log_f = estimate(q);
    result.exact = exact_quantiles(q.counts, q.size);
  } else {
    const LogF model = log_f_of(prior_->of_row[static_cast<std::size_t>(q.prompt)], q.reward, prior_->round);
    const double total = static_cast<double>(q.size) + prior_->weight, lt = static_cast<double>(q.counts.lt);
    result.exact = {(lt + prior_->weight * model.exact.f_strict) / total,
                    (static_cast<double>(q.counts.le) + prior_->weight * model.exact.f) / total};
    result.log_f = lt > 0 ? std::log(result.exact.f_strict) : std::log(prior_->weight / total) + model.log_f;
  }
  result.at_floor = q.counts.lt == 0;
  result.at_ceiling = q.counts.lt == q.size;
  return result;
}

double LogFTable::estimate(const Query& q) const {
  const auto lt = static_cast<std::size_t>(q.counts.lt);
  const double log_total = std::log(static_cast<double>(q.size + 1));
  const double floor = -2.0 * log_total;
  const double add_one = std::log(static_cast<double>(q.counts.lt + 1) / static_cast<double>(q.size + 1));
  switch (estimator_) {
    case Estimator::add_one: return add_one;
    case Estimator::harmonic: return harmonic_[lt] - harmonic_[static_cast<std::size_t>(q.size)];
    case Estimator::interpolated: return std::max(floor, interpolated(q));
    case Estimator::exponential: {
      const ExponentialFit& fit = fits_[static_cast<std::size_t>(q.prompt)];
      return fit.rate > 0 ? std::max(floor, fit(q.reward)) : add_one;
    }
  }
  throw InternalError("unknown estimator");
}

double LogFTable::interpolated(const Query& q) const {
  const Tails& tails = tails_[static_cast<std::size_t>(q.prompt)];
  const double log_total = std::log(static_cast<double>(q.size + 1));
  if (q.counts.lt == 0) {
    const double depth = q.above - q.reward;  // >= 0
    if (depth == 0.0) return -log_total;
    return tails.low > 0 ? -depth / tails.low - log_total : -2.0 * log_total;
  }
  double u = 1.0;
  if (q.counts.lt == q.size) {
    if (tails.high > 0) u = -std::expm1(-(q.reward - q.below) / tails.high);
  } else if (q.above > q.below) {
    u = (q.reward - q.below) / (q.above - q.below);
  }
  return std::log((static_cast<double>(q.counts.lt) + u) / static_cast<double>(q.size + 1));
}

}  // namespace vbon
