#include "vbon/train/batch_pass.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>

#include <numeric>

#include "vbon/base/error.hpp"
#include "vbon/model/vocab_head.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

}  // namespace

BatchPass::BatchPass(const CausalLm& reference, const Policy& policy, std::vector<Sequence> sequences, Options options)
    : reference_(reference), policy_(policy), sequences_(std::move(sequences)), options_(options),
      trunks_(sequences_.size()), reference_logits_(sequences_.size()) {}

std::vector<std::vector<std::int64_t>> BatchPass::split(std::span<const std::int64_t> members) const {
  std::vector<Sequence> chosen;
  for (const std::int64_t i : members) chosen.push_back(sequences_[idx(i)]);
  std::vector<std::vector<std::int64_t>> groups = micro_batches(chosen, options_.micro_batch);
  for (auto& group : groups)
    for (std::int64_t& i : group) i = members[idx(i)];
  return groups;
}

BatchPass::Micro BatchPass::micro(std::span<const std::int64_t> members) {
  Micro micro{.members = {members.begin(), members.end()}};
  std::vector<Sequence> chosen;
  for (const std::int64_t i : members) chosen.push_back(sequences_[idx(i)]);
  micro.packed = pack(chosen, reference_.device());
  if (!policy_.has_trunk()) return micro;
  std::vector<std::int64_t> missing;
  for (const std::int64_t i : members)
    if (!trunks_[idx(i)].defined()) missing.push_back(i);
  if (!missing.empty()) {
    std::vector<Sequence> to_run;
    for (const std::int64_t i : missing) to_run.push_back(sequences_[idx(i)]);
    const std::vector<at::Tensor> rows =
        run_trunk(reference_, missing.size() == members.size() ? micro.packed : pack(to_run, reference_.device()),
                  policy_.first_trained_block);
    for (std::size_t k = 0; k < missing.size(); ++k) trunks_[idx(missing[k])] = rows[k];
    trunks_computed_ += static_cast<std::int64_t>(missing.size());
  }
  for (const std::int64_t i : members) micro.trunk.push_back(trunks_[idx(i)]);
  if (!options_.keep)
    for (const std::int64_t i : missing) trunks_[idx(i)] = at::Tensor();
  return micro;
}

void BatchPass::give_trunk(std::int64_t sequence, const at::Tensor& rows) {
  check(rows.dim() == 2 && rows.size(0) == sequences_[idx(sequence)].inputs(), "give_trunk: rows of another sequence");
  trunks_[idx(sequence)] = rows;
}

void BatchPass::give_trunk(std::int64_t sequence, std::span<const float> prompt, std::span<const float> own,
                           std::int64_t width) {
  const auto rows_of = [width](std::span<const float> values) {
    return at::from_blob(const_cast<float*>(values.data()), {std::ssize(values) / width, width}, at::kFloat);
  };
  give_trunk(sequence, at::cat({rows_of(prompt), rows_of(own)}).to(reference_.device(), reference_.dtype()));
}

at::Tensor BatchPass::policy_hidden(const Micro& micro) const {
  return response_hidden(policy_.model, micro.packed, policy_.first_trained_block, micro.trunk);
}

at::Tensor BatchPass::reference_logits(const Micro& micro) {
  const at::NoGradGuard no_grad;
  bool all_kept = true;
  for (const std::int64_t i : micro.members) all_kept = all_kept && reference_logits_[idx(i)].defined();
  if (all_kept) {
    std::vector<at::Tensor> parts;
    for (const std::int64_t i : micro.members) parts.push_back(reference_logits_[idx(i)]);
    return parts.size() == 1 ? parts[0] : at::cat(parts, 0);
  }
  const at::Tensor hidden = response_hidden(reference_, micro.packed, policy_.first_trained_block, micro.trunk);
  const at::Tensor logits = head_logits(reference_, hidden).to(at::kFloat);
  const double mib = static_cast<double>(logits.nbytes()) / 1048576.0;
  if (!options_.keep || kept_mib_ + mib > options_.reference_cache_mib) return logits;
  kept_mib_ += mib;
  for (std::size_t k = 0; k < micro.members.size(); ++k) {
    const std::int64_t begin = micro.packed.offset[k];
    reference_logits_[idx(micro.members[k])] = logits.narrow(0, begin, micro.packed.offset[k + 1] - begin);
  }
  return logits;
}

Measured measure(BatchPass& pass, const Policy& policy, const Critic& critic, std::span<const Share> shares,
                 std::int64_t max_new_tokens) {
  const at::NoGradGuard no_grad;
  const auto blank = [&] { return at::zeros({pass.size(), max_new_tokens}, at::kFloat); };
  Measured out{blank(), blank(), blank(), blank(), critic.exists() ? blank() : at::Tensor()};
  std::vector<std::vector<std::int64_t>> groups;
  for (const Share& share : shares) {
    std::vector<std::int64_t> members(idx(share.size()));
    std::iota(members.begin(), members.end(), share.begin);
    for (auto& group : pass.split(members)) groups.push_back(std::move(group));
  }
  for (const auto& group : groups) {
    const BatchPass::Micro micro = pass.micro(group);
    const at::Tensor hidden = pass.policy_hidden(micro);
    const TokenStatistics stats = token_statistics(hidden, policy.model.head, micro.packed.targets,
                                                   pass.options().temperature, pass.reference_logits(micro));
    const at::Tensor values = critic.exists() ? values_of(critic, hidden, micro.packed, micro.trunk) : at::Tensor();
    for (std::size_t k = 0; k < group.size(); ++k) {
      const std::int64_t begin = micro.packed.offset[k], count = micro.packed.offset[k + 1] - begin;
      const auto put = [&](at::Tensor& target, const at::Tensor& rows) {
        target.select(0, group[k]).narrow(0, 0, count).copy_(rows.narrow(0, begin, count));
      };
      put(out.logp, stats.logp);
      put(out.logp_reference, stats.logp_ref);
      put(out.kl, stats.kl);
      put(out.entropy, stats.entropy);
      if (values.defined()) put(out.values, values);
    }
  }
  return out;
}

}  // namespace vbon
