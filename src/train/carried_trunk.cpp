#include "vbon/train/carried_trunk.hpp"

#include <algorithm>

#include "vbon/base/error.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

}  // namespace

std::int64_t carried_block(const Settings& settings, const LmSpec& spec) {
  return settings.rollouts.carry_trunk ? first_trained_block(spec, settings.train.layers) : 0;
}

KeptRows kept_rows(const Completion& completion) {
  check(completion.trunk.defined(), "kept_rows: the sampler kept none");
  KeptRows kept{.all = completion.trunk.to(at::kCPU, at::kFloat).contiguous()};
  const std::span values(kept.all.const_data_ptr<float>(), idx(kept.all.numel()));
  const std::size_t own = (completion.tokens.size() - 1) * idx(kept.all.size(1));
  kept.prompt = values.first(values.size() - own);
  kept.own = values.last(own);
  return kept;
}

CarriedTrunk carried_trunk(std::span<const Completion> completions) {
  CarriedTrunk carried;
  for (std::size_t i = 0; i < completions.size(); ++i) {
    const KeptRows kept = kept_rows(completions[i]);
    const bool brings_prompt = i == 0 || completions[i - 1].prompt != completions[i].prompt;
    carried.rows.push_back(
        static_cast<std::int32_t>(brings_prompt ? kept.all.size(0) : std::ssize(completions[i].tokens) - 1));
    if (brings_prompt) carried.values.insert(carried.values.end(), kept.prompt.begin(), kept.prompt.end());
    carried.values.insert(carried.values.end(), kept.own.begin(), kept.own.end());
  }
  return carried;
}

void give_carried_trunk(BatchPass& pass, const RolloutBatch& batch, std::span<const Share> shares,
                        const Policy& policy) {
  const CarriedTrunk& trunk = batch.trunk;
  if (trunk.values.empty() || !policy.has_trunk()) return;
  check(std::ssize(trunk.rows) == pass.size(), "give_carried_trunk: rows of another batch");
  const std::int64_t width = trunk.width();
  const auto rows_at = [&](std::int64_t first, std::int64_t count) {
    return std::span(trunk.values).subspan(idx(first * width), idx(count * width));
  };
  std::int64_t at = 0, prompt_at = 0;              // rows
  std::span<const std::int32_t> prompt_of_others;  // whose rows begin at prompt_at
  for (std::int64_t i = 0; i < pass.size(); ++i) {
    const Sequence& sequence = pass.sequences()[idx(i)];
    const std::int64_t brought = trunk.rows[idx(i)], own = std::ssize(sequence.response) - 1,
                       prompt = std::ssize(sequence.prompt);
    if (brought > own) {
      prompt_at = at;
      prompt_of_others = sequence.prompt;
    }
    at += brought;
    if (brought < own || !std::ranges::equal(prompt_of_others, sequence.prompt)) continue;  // not carried
    check(brought == own || brought == prompt + own, "give_carried_trunk: rows of another sequence");
    const bool is_wanted = std::any_of(shares.begin(), shares.end(),
                                       [i](const Share& share) { return share.begin <= i && i < share.end; });
    if (is_wanted) pass.give_trunk(i, rows_at(prompt_at, prompt), rows_at(at - own, own), width);
  }
}

}  // namespace vbon
