#include "vbon/train/pool_step.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <numeric>
#include <string>

#include "train/learner_common.hpp"
#include "vbon/base/error.hpp"
#include "vbon/model/vocab_head.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

// Gives the pass, whose sequences are the members, what enters their first trained block, if that is what the pool
// kept.
void give_kept_trunks(BatchPass& pass, const Pool& pool, std::span<const std::int64_t> members, const Policy& policy) {
  const TrunkRows& kept = pool.block.trunk;
  if (!policy.has_trunk() || kept.block != policy.first_trained_block) return;
  const std::vector<std::int64_t> offset = trunk_offsets(pool.block.samples);
  const std::vector<std::int64_t>& prompt = pool.block.prompts.offset;
  const auto rows_of = [&](const std::vector<float>& values, std::int64_t begin, std::int64_t end) {
    return std::span(values).subspan(idx(begin * kept.width), idx((end - begin) * kept.width));
  };
  for (std::size_t i = 0; i < members.size(); ++i) {
    const std::int64_t member = members[i];
    const std::size_t row = idx(member / pool.header.num_samples);
    pass.give_trunk(static_cast<std::int64_t>(i), rows_of(kept.prompt, prompt[row], prompt[row + 1]),
                    rows_of(kept.samples, offset[idx(member)], offset[idx(member + 1)]), kept.width);
  }
}

class PoolStep {
 public:
  PoolStep(LearnerState& state, const LearnerTools& tools, const Pool& pool, PoolLoss& loss, std::int64_t update)
      : state_(state), tools_(tools), settings_(tools.settings), pool_(pool), loss_(loss),
        group_(loss.grouping().samples), parts_(state.parallel->shares(loss.grouping().an_update)) {
    const std::int64_t begin = parts_.front().begin, end = parts_.back().end;
    const std::span<const std::int64_t> all = loss.members(update);
    mine_ = all.subspan(idx(begin * group_), idx((end - begin) * group_));
    for (const std::int64_t member : mine_) {
      const std::int64_t row = member / pool.header.num_samples, sample = member % pool.header.num_samples;
      sequences_.push_back({pool.block.prompts.tokens_of(row), pool.block.samples.tokens_of(row, sample)});
    }
    for (const std::int64_t member : all)
      prompt_ids_.push_back(pool.block.prompts.id[idx(member / pool.header.num_samples)]);
  }

  Metrics run(const OptimizerConfig& optimizer, std::int64_t update, std::int64_t total_updates) {
    BatchPass pass(*state_.reference, state_.policy, sequences_,
                   {settings_.sampling.temperature, settings_.train.micro_batch, 0});
    give_kept_trunks(pass, pool_, mine_, state_.policy);
    // Groups stay whole: the loss of one needs all of its samples.
    const std::int64_t micro_size = std::max<std::int64_t>(settings_.train.micro_batch / group_, 1) * group_;
    std::vector<double> sums;  // a row a part
    for (const Share& part : parts_) {
      figures_.assign(loss_.figure_names().size() + 1, {});
      const std::int64_t begin = (part.begin - parts_.front().begin) * group_, end = begin + part.size() * group_;
      for (std::int64_t first = begin; first < end; first += micro_size) {
        if (first + micro_size >= pass.size()) state_.parallel->last_backward();
        backward(pass, first, std::min(micro_size, end - first));
      }
      state_.parallel->end_part();
      for (const PoolLoss::Mean& mean : figures_) sums.insert(sums.end(), {mean.sum, mean.count});
    }
    const double rate = learning_rate(optimizer, update, total_updates);
    const double norm = reduce_and_step(state_, rate, prompt_ids_, fmt::format("update {}", update));
    return metrics(state_.parallel->sum_of_parts(sums, 2 * figures_.size(), "loss sums"), norm, rate);
  }

 private:
  void backward(BatchPass& pass, std::int64_t first, std::int64_t count) {
    std::vector<std::int64_t> chosen(idx(count));
    std::iota(chosen.begin(), chosen.end(), first);
    const BatchPass::Micro micro = pass.micro(chosen);
    const TokenStatistics stats = token_statistics(pass.policy_hidden(micro), state_.policy.model.head,
                                                   micro.packed.targets, settings_.sampling.temperature);
    const at::Tensor logp_on_host = stats.logp.detach().cpu();
    const std::span logp(logp_on_host.const_data_ptr<float>(), idx(logp_on_host.numel()));
    std::vector<float> slope(logp.size());
    const double share = 1 / static_cast<double>(loss_.grouping().an_update);
    std::vector<PoolLoss::Sample> group;
    for (std::int64_t k = 0; k < count; ++k) {
      const std::size_t begin = idx(micro.packed.offset[idx(k)]), size = idx(micro.packed.offset[idx(k + 1)]) - begin;
      group.push_back({.index = mine_[idx(first + k)],
                       .logp = logp.subspan(begin, size),
                       .slope = std::span(slope).subspan(begin, size)});
      figures_.back().add(static_cast<double>(size));
      if (std::ssize(group) < group_) continue;
      loss_.add(group, share, std::span(figures_).first(figures_.size() - 1));
      group.clear();
    }
    check(group.empty(), "a micro-batch of whole groups");
    (stats.logp * at::tensor(slope).to(stats.logp.device())).sum().backward();
  }

  Metrics metrics(const std::vector<double>& sums, double norm, double rate) const {
    Metrics metrics = {{"grad_norm", norm}, {"learning_rate", rate}};
    for (std::size_t i = 0; i < figures_.size(); ++i) {
      const bool last = i + 1 == figures_.size();
      if (sums[2 * i + 1] > 0)
        metrics[last ? "length" : std::string(loss_.figure_names()[i])] = sums[2 * i] / sums[2 * i + 1];
    }
    return metrics;
  }

  LearnerState& state_;
  const LearnerTools& tools_;
  const Settings& settings_;
  const Pool& pool_;
  PoolLoss& loss_;
  std::int64_t group_;
  std::vector<Share> parts_;            // of an update's groups, this learner's
  std::span<const std::int64_t> mine_;  // their samples, group after group
  std::vector<Sequence> sequences_;     // of mine_
  std::vector<std::int64_t> prompt_ids_;
  std::vector<PoolLoss::Mean> figures_;  // of a part: the loss's, then the length
};

// The groups of each update in the order of their prompts: samples of one prompt then meet in a micro-batch, which
// computes what they share once.
void order_by_prompt(std::vector<std::int64_t>& dealt, const PoolLoss::Grouping& grouping) {
  const std::vector<std::int64_t> before = dealt;
  const auto sample = [&](std::int64_t group) { return before.begin() + group * grouping.samples; };
  std::vector<std::int64_t> groups(idx(grouping.an_epoch / grouping.an_update * grouping.an_update));
  std::iota(groups.begin(), groups.end(), 0);
  for (auto update = groups.begin(); update != groups.end(); update += grouping.an_update)
    std::stable_sort(update, update + grouping.an_update,
                     [&](std::int64_t a, std::int64_t b) { return *sample(a) < *sample(b); });
  auto to = dealt.begin();
  for (const std::int64_t group : groups) to = std::copy_n(sample(group), grouping.samples, to);
}

}  // namespace

std::span<const std::int64_t> PoolLoss::members(std::int64_t update) {
  const std::int64_t updates = grouping_.an_epoch / grouping_.an_update, epoch = update / updates;
  if (epoch != dealt_epoch_) {
    dealt_ = deal(epoch);
    dealt_epoch_ = epoch;
    check(std::ssize(dealt_) == grouping_.an_epoch * grouping_.samples, "an epoch of whole groups");
    order_by_prompt(dealt_, grouping_);
  }
  return std::span(dealt_).subspan(idx(update % updates * samples_an_update()), idx(samples_an_update()));
}

Metrics pool_step(LearnerState& state, const LearnerTools& tools, const Pool& pool, PoolLoss& loss,
                  const OptimizerConfig& optimizer, std::int64_t update, std::int64_t total_updates) {
  const Phases::Scope scope(tools.phases, Phase::update, state.parallel->learners().group().waiter());
  return PoolStep(state, tools, pool, loss, update).run(optimizer, update, total_updates);
}

}  // namespace vbon
