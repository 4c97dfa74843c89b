// What the regression aims at: log w_N of each pool sample, whole or divided over its tokens by its prefixes' rewards.
#include "vbon/base/error.hpp"
#include "vbon/objective/vbon.hpp"
#include "vbon/train/prefixes.hpp"
#include "vbon/train/regression.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

}  // namespace

RegressionTargets::RegressionTargets(const Pool& pool, const LogFTable& table, const VbonConfig& target, Credit credit,
                                     std::span<const MoreTable> more) {
  check(more.empty() || credit == Credit::response, "prefixes are scored by the main reward alone");
  const auto log_w = [&target](const LogF& log_f) { return log_weight(target, log_f); };
  const PrefixRows& prefixes = pool.block.prefixes;
  const PrefixValues values = credit == Credit::prefix ? fit_prefix_values(pool, table, log_w) : PrefixValues{};
  const auto cuts = static_cast<std::int64_t>(values.lines.size());  // of a sample in the file
  const std::vector<float>& rewards = pool.block.rewards.at("main");
  first_.push_back(0);
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(rewards.size()); ++i) {
    const std::int64_t row = i / pool.header.num_samples, sample = i % pool.header.num_samples;
    const std::int32_t length = pool.block.samples.length[idx(i)];
    const auto response = pool.block.samples.tokens_of(row, sample);
    const std::int64_t first = prefixes.begin_of(row, sample, cuts),
                       inside = sample < prefixes.samples ? std::min(cuts, prefixes.num_cuts(length)) : 0;
    double value = values.start, logp = 0;
    for (std::int64_t cut = 0; cut < inside; ++cut) {
      const double next = values.lines[idx(cut)].value(
          log_w(table.of(row, prefixes.reward[idx(first + cut)], response.first(idx((cut + 1) * values.every)))));
      const double next_logp = prefixes.logp_reference[idx(first + cut)];
      segments_.push_back({static_cast<std::int32_t>((cut + 1) * values.every), next - value, next_logp - logp});
      value = next;
      logp = next_logp;
    }
    double whole = log_w(table.of_own(row, rewards[idx(i)], response));
    for (const MoreTable& one : more) {
      const LogF log_f = one.table->of_own(row, pool.block.rewards.at(one.name)[idx(i)], response);
      whole += one.n > 1 ? log_weight(with_n(target, one.n), log_f) : 0;
    }
    log_w_.push_back(whole);
    segments_.push_back({length, whole - value, pool.block.samples.logp_reference[idx(i)] - logp});
    first_.push_back(segments_.size());
  }
}

std::span<const TargetSegment> RegressionTargets::of(std::int64_t sample) const {
  return std::span(segments_).subspan(first_[idx(sample)], first_[idx(sample) + 1] - first_[idx(sample)]);
}

}  // namespace vbon
