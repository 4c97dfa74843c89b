// What enters the first trained block of every sampled sequence, from the sampler to the learners: rows that it
// computed while it decoded. Prompts are carried once for all samples that follow each other.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "vbon/generate/engine.hpp"
#include "vbon/store/rollouts.hpp"
#include "vbon/train/batch_pass.hpp"
#include "vbon/train/data_parallel.hpp"
#include "vbon/train/settings.hpp"
#include "vbon/train/trainable.hpp"

namespace vbon {

// The block whose inputs the samples of a run carry: the first trained one; 0 where they carry none.
std::int64_t carried_block(const Settings& settings, const LmSpec& spec);

// What the sampler kept of one completion, float32 whatever the model's type.
struct KeptRows {
  at::Tensor all;  // [prompt + response - 1, D]; the spans are of it
  std::span<const float> prompt, own;
};
KeptRows kept_rows(const Completion& completion);

// Completions in the sampler's order, with `trunk`.
CarriedTrunk carried_trunk(std::span<const Completion> completions);

// Gives the pass, whose sequences are those of the batch, the rows of the sequences in `shares`. Nothing where none are
// carried; InternalError where rows do not fit the sequences.
void give_carried_trunk(BatchPass& pass, const RolloutBatch& batch, std::span<const Share> shares,
                        const Policy& policy);

}  // namespace vbon
