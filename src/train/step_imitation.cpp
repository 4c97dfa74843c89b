#include "train/step_imitation.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>

#include <algorithm>

#include "vbon/model/vocab_head.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

std::vector<Sequence> sequences_of(const std::vector<Imitated>& imitated) {
  std::vector<Sequence> sequences;
  for (const Imitated& one : imitated) sequences.push_back(one.sequence);
  return sequences;
}

}  // namespace

StepImitation::StepImitation(const LearnerState& state, const Settings& settings, std::vector<Imitated> imitated)
    : policy_(state.policy), temperature_(settings.sampling.temperature), imitated_(std::move(imitated)),
      pass_(*state.reference, state.policy, sequences_of(imitated_),
            {temperature_, settings.train.micro_batch, 0, !state.parallel->is_fixed()}) {}

std::vector<std::int64_t> StepImitation::of_prompts(Share prompts) const {
  std::vector<std::int64_t> members;
  for (std::int64_t i = 0; i < pass_.size(); ++i) {
    const auto prompt = static_cast<std::int64_t>(imitated_[idx(i)].prompt);
    if (prompt >= prompts.begin && prompt < prompts.end) members.push_back(i);
  }
  return members;
}

double StepImitation::backward(std::span<const std::int64_t> group, double unit) {
  const BatchPass::Micro micro = pass_.micro(group);
  const TokenStatistics stats =
      token_statistics(pass_.policy_hidden(micro), policy_.model.head, micro.packed.targets, temperature_);
  std::vector<float> weight(idx(stats.logp.numel()));
  for (std::size_t k = 0; k < group.size(); ++k)
    std::fill(weight.begin() + micro.packed.offset[k], weight.begin() + micro.packed.offset[k + 1],
              static_cast<float>(imitated_[idx(group[k])].weight));
  const at::Tensor nll = -(stats.logp * at::tensor(weight).to(stats.logp.device())).sum();
  (nll * unit).backward();
  return nll.item<double>();
}

}  // namespace vbon
