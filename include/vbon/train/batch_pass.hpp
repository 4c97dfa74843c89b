// One batch of sequences as a learner runs it: the frozen trunk's rows and the reference's logits are made once, when a
// sequence is first needed, and serve the measurement, every epoch, the reference and the critic.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "vbon/train/critic.hpp"
#include "vbon/train/data_parallel.hpp"
#include "vbon/train/sequences.hpp"
#include "vbon/train/trainable.hpp"

namespace vbon {

class BatchPass {
 public:
  struct Options {
    double temperature = 1.0;
    std::int64_t micro_batch = 32;
    double reference_cache_mib = 1024;
    // Without, every micro-batch computes its own trunk and reference: its bits then depend on its members alone, not
    // on which other micro-batches this learner has seen.
    bool keep = true;
  };

  // `reference` and `policy` share the trunk below the policy's first trained block. The spans of `sequences` must
  // stay.
  BatchPass(const CausalLm& reference, const Policy& policy, std::vector<Sequence> sequences, Options options);

  std::int64_t size() const { return static_cast<std::int64_t>(sequences_.size()); }
  const std::vector<Sequence>& sequences() const { return sequences_; }
  const Options& options() const { return options_; }

  struct Micro {
    std::vector<std::int64_t> members;  // indices into sequences()
    PackedSequences packed;
    std::vector<at::Tensor> trunk;  // rows entering the first trained block; empty without a trunk
  };
  // The given sequences in micro-batches, with their trunks.
  std::vector<std::vector<std::int64_t>> split(std::span<const std::int64_t> members) const;
  Micro micro(std::span<const std::int64_t> members);

  // Hidden states [R, D] of the policy with its present weights; differentiable unless gradients are off.
  at::Tensor policy_hidden(const Micro& micro) const;
  at::Tensor reference_logits(const Micro& micro);  // [R, V] float32, no gradient

  // Sequences whose trunk was computed here rather than given (for tests and reports).
  std::int64_t trunks_computed() const { return trunks_computed_; }
  // The sampler's own rows entering the first trained block, if it kept them; or as float32 of width D, copied.
  void give_trunk(std::int64_t sequence, const at::Tensor& rows);
  void give_trunk(std::int64_t sequence, std::span<const float> prompt, std::span<const float> own, std::int64_t width);

 private:
  const CausalLm& reference_;
  const Policy& policy_;
  std::vector<Sequence> sequences_;
  Options options_;
  std::vector<at::Tensor> trunks_;            // of each sequence; undefined: not yet
  std::vector<at::Tensor> reference_logits_;  // of each sequence; undefined: not kept
  double kept_mib_ = 0;
  std::int64_t trunks_computed_ = 0;
};

// Per token of each sequence's response, [B, T] float32 with zeros behind the response, in CPU memory: what is measured
// before a step learns from its batch (and what an evaluation reports).
struct Measured {
  at::Tensor logp, logp_reference, kl, entropy, values;  // values undefined without critic
};
// Of the sequences in `shares` only; rows of the others stay zero. No micro-batch lies in two shares. No gradients.
Measured measure(BatchPass& pass, const Policy& policy, const Critic& critic, std::span<const Share> shares,
                 std::int64_t max_new_tokens);

}  // namespace vbon
