#include "vbon/train/carried_trunk.hpp"

#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>

#include "vbon/base/error.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

}  // namespace

CarriedTrunk carried_trunk(std::span<const Completion> completions) {
  CarriedTrunk carried;
  for (std::size_t i = 0; i < completions.size(); ++i) {
    const Completion& c = completions[i];
    check(c.trunk.defined(), "carried_trunk: the sampler kept no rows");
    const at::Tensor rows = c.trunk.to(at::kCPU, at::kFloat).contiguous();  // [prompt + own, D]
    const bool brings_prompt = i == 0 || completions[i - 1].prompt != c.prompt;
    const std::int64_t own = std::ssize(c.tokens) - 1, brought = brings_prompt ? rows.size(0) : own;
    const float* const end = rows.const_data_ptr<float>() + rows.numel();
    carried.rows.push_back(static_cast<std::int32_t>(brought));
    carried.values.insert(carried.values.end(), end - brought * rows.size(1), end);
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
    return at::from_blob(const_cast<float*>(trunk.values.data()) + first * width, {count, width}, at::kFloat);
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
    if (!is_wanted) continue;
    const at::Tensor rows = at::cat({rows_at(prompt_at, prompt), rows_at(at - own, own)});
    pass.give_trunk(i, rows.to(policy.model.device(), policy.model.dtype()));
  }
}

}  // namespace vbon
