// Prompt-and-response sequences as a learner runs them: rows without padding, a prompt's once for all its responses of
// a micro-batch; only the rows that predict response tokens go through the head.
//
// Shapes: b sequences of a micro-batch, n rows (the tokens of its different prompts and of its responses but the last),
// R response tokens in all, D hidden size.
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
  std::vector<std::vector<std::int64_t>> inputs;  // of each sequence: its rows of [n], prompt + response - 1
  RaggedRows ragged;                              // the same for attention
  at::Tensor tokens;                              // int64 [n]
  at::Tensor rows;                   // int64 [R]: those of [n] that predict a response token, sequence by sequence
  at::Tensor targets;                // int64 [R]: the tokens that they predict
  std::vector<std::int64_t> offset;  // [b + 1]: sequence i has rows[offset[i]] .. rows[offset[i + 1]]

  std::int64_t count() const { return ragged.count; }  // b
};

PackedSequences pack(std::span<const Sequence> sequences, at::Device device);

// Rows entering block `first` for each sequence, [inputs, D] each, without gradient: what a frozen trunk computes once.
std::vector<at::Tensor> run_trunk(const CausalLm& model, const PackedSequences& packed, std::int64_t first);

// Hidden states after the final norm of the rows that predict response tokens, [R, D]. With first > 0, `trunk` holds
// the sequences' rows entering that block; with 0 the model runs from its embedding.
at::Tensor response_hidden(const CausalLm& model, const PackedSequences& packed, std::int64_t first,
                           std::span<const at::Tensor> trunk);

// Sequences grouped into micro-batches of at most `max_sequences`: those of a prompt beside each other, neighbours in
// length; indices into `sequences`. The order depends on lengths and on which prompts are equal alone.
std::vector<std::vector<std::int64_t>> micro_batches(std::span<const Sequence> sequences, std::int64_t max_sequences);

}  // namespace vbon
