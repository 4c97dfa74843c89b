// Prompt-and-response sequences as a learner runs them: packed into one right-padded batch, of which only the rows that
// predict response tokens go through the head.
//
// Shapes: b sequences of a micro-batch, L longest input (prompt + response - 1), R response tokens in all, D hidden
// size.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "vbon/model/causal_lm.hpp"
#include "vbon/train/trainable.hpp"

namespace vbon {

struct Sequence {
  std::span<const std::int32_t> prompt, response;  // neither empty
  std::int64_t inputs() const { return static_cast<std::int64_t>(prompt.size() + response.size()) - 1; }
};

struct PackedSequences {
  std::int64_t count = 0, length = 0;  // b, L
  at::Tensor tokens;                   // int64 [b L]: inputs, zeros behind them
  at::Tensor rows;                     // int64 [R]: those of [b L] that predict a response token, sequence by sequence
  at::Tensor targets;                  // int64 [R]: the tokens that they predict
  std::vector<std::int64_t> inputs;    // [b]
  std::vector<std::int64_t> offset;    // [b + 1]: sequence i has rows[offset[i]] .. rows[offset[i + 1]]
};

PackedSequences pack(std::span<const Sequence> sequences, at::Device device);

// Rows entering block `first` for each sequence, [inputs, D] each, without gradient: what a frozen trunk computes once.
std::vector<at::Tensor> run_trunk(const CausalLm& model, const PackedSequences& packed, std::int64_t first);

// Hidden states after the final norm of the rows that predict response tokens, [R, D]. With first > 0, `trunk` holds
// the sequences' rows entering that block; with 0 the model runs from its embedding.
at::Tensor response_hidden(const CausalLm& model, const PackedSequences& packed, std::int64_t first,
                           std::span<const at::Tensor> trunk);

// Sequences grouped into micro-batches: neighbours in length, at most `max_sequences` each; indices into `sequences`,
// in an order that depends on lengths alone.
std::vector<std::vector<std::int64_t>> micro_batches(std::span<const Sequence> sequences, std::int64_t max_sequences);

}  // namespace vbon
