// A causal language model as a record of tensors, and its forward pass as straight functions. One forward serves the
// learner (whole sequences, gradients) and the sampler (one token a row, caches): they differ in `Attend` alone.
//
// Shapes: n rows (tokens), D hidden size, V vocabulary, H heads, K key-value heads, d head dimension.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "vbon/model/layers.hpp"
#include "vbon/model/lm_spec.hpp"

namespace vbon {

struct Block {
  Norm attention_norm, mlp_norm;
  Linear qkv;            // [(H + 2K) d, D]: queries, keys, values
  Linear attention_out;  // [D, H d]
  Linear mlp_in;         // [F, D], or [2F, D]: gate, up
  Linear mlp_out;        // [D, F]
};

struct CausalLm {
  LmSpec spec;
  at::Tensor token_embedding;     // [V, D]
  at::Tensor position_embedding;  // [max_positions, D], undefined: rotary
  std::vector<Block> blocks;
  Norm final_norm;
  at::Tensor head;  // [V, D]; the same tensor as token_embedding when tied
  RopeTable rope;
  // Under autograd every block keeps its input alone and is computed again by the backward pass (recompute.hpp): what
  // run_blocks() is given must live until then.
  bool recompute = false;

  at::Device device() const { return token_embedding.device(); }
  at::ScalarType dtype() const { return token_embedding.scalar_type(); }
  std::int64_t num_layers() const { return static_cast<std::int64_t>(blocks.size()); }
};

// Attention of one layer: q [n, H, d], k and v [n, K, d] (rotated) -> [n, H d].
using Attend =
    std::function<at::Tensor(std::int64_t layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v)>;

// One matrix product: x [n, in] -> [n, out]. `linear`, or a sampler's packed weights (packed_weights.hpp).
using Multiply = std::function<at::Tensor(const at::Tensor& x, const Linear& layer)>;

// What scores are multiplied by before the softmax.
double attention_scale(const LmSpec& spec, std::int64_t layer);

// tokens, positions: int64 [n] -> [n, D]
at::Tensor embed(const CausalLm& model, const at::Tensor& tokens, const at::Tensor& positions);
// Blocks [first, last) on rows x [n, D] at `positions` [n] -> [n, D]
at::Tensor run_blocks(const CausalLm& model, at::Tensor x, const at::Tensor& positions, std::int64_t first,
                      std::int64_t last, const Attend& attend, const Multiply& multiply = linear);
at::Tensor final_hidden(const CausalLm& model, const at::Tensor& x);  // the last norm: [n, D] -> [n, D]
at::Tensor head_logits(const CausalLm& model, const at::Tensor& hidden,
                       const Multiply& multiply = linear);  // -> [n, V]

// Causal attention within `batch` sequences of `length` rows each (rows are sequence-major). Padding on the right needs
// no mask: no earlier row looks at it.
Attend full_attention(const LmSpec& spec, std::int64_t batch, std::int64_t length);

// Rows of b sequences of several lengths with no padding between them; a beginning that several sequences share has its
// rows once. Only attention, which needs a rectangle, sees padding and copies.
struct RaggedRows {
  std::int64_t count = 0, longest = 0;  // b, L
  at::Tensor positions;                 // int64 [n]: of each row in its sequences
  at::Tensor place;                     // int64 [n]: one of its places in [b L]
  at::Tensor row;                       // int64 [b L]: at each place; behind a sequence's end, its last row

  std::int64_t num_rows() const { return positions.size(0); }
};
// sequences[i]: the rows of sequence i, one a position; together they are 0 .. n - 1.
RaggedRows ragged_rows(std::span<const std::vector<std::int64_t>> sequences, at::Device device);
// Causal attention within each of the sequences. `spec` must live as long as the result.
Attend ragged_attention(const LmSpec& spec, const RaggedRows& rows);

// Positions 0..length-1 for every one of `batch` sequences: int64 [batch * length].
at::Tensor row_positions(std::int64_t batch, std::int64_t length, at::Device device);

// Whole forward of right-padded tokens int64 [B, T] -> last hidden states after the final norm [B, T, D].
at::Tensor forward_hidden(const CausalLm& model, const at::Tensor& tokens);
at::Tensor forward_logits(const CausalLm& model, const at::Tensor& tokens);  // [B, T, V]

}  // namespace vbon
