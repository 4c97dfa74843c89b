// BERT-like encoders (BERT, DistilBERT) with a classification head, as a record of tensors and straight functions:
// reward models, evaluators and critics. Padding never changes a row: padded keys get no attention at all.
//
// Shapes: B rows, T tokens a row (right-padded), D hidden size, H heads, F intermediate size, C labels.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "vbon/model/encoder_spec.hpp"
#include "vbon/model/layers.hpp"

namespace vbon {

// Post-norm: the norms stand after the residual sums.
struct EncoderBlock {
  Linear qkv;            // [3D, D]: queries, keys, values
  Linear attention_out;  // [D, D]
  Norm attention_norm;
  Linear mlp_in;   // [F, D]
  Linear mlp_out;  // [D, F]
  Norm mlp_norm;
};

struct Encoder {
  EncoderSpec spec;
  at::Tensor token_embedding;     // [V, D]
  at::Tensor position_embedding;  // [max_positions, D]
  at::Tensor type_embedding;      // [types, D], undefined without; every token is of type 0
  Norm embedding_norm;
  std::vector<EncoderBlock> blocks;
  Linear pooler;      // [D, D] of Pooling::first; else undefined, or a bare BERT's own, which is kept for export
  Linear classifier;  // [C, D], undefined without head

  at::Device device() const { return token_embedding.device(); }
  at::ScalarType dtype() const { return token_embedding.scalar_type(); }
  std::int64_t num_layers() const { return static_cast<std::int64_t>(blocks.size()); }
};

// lengths int64 [B], each in 1..T -> bool [B, 1, 1, T], true: a real token.
at::Tensor token_mask(const at::Tensor& lengths, std::int64_t length);

// tokens int64 [B, T] -> [B, T, D]
at::Tensor embed(const Encoder& encoder, const at::Tensor& tokens);
// Blocks [first, last) on x [B, T, D]. A mask that hides nothing is used too: one shape is one computation.
at::Tensor run_blocks(const Encoder& encoder, at::Tensor x, const at::Tensor& mask, std::int64_t first,
                      std::int64_t last);
at::Tensor mean_over_tokens(const at::Tensor& hidden, const at::Tensor& mask);  // [B, T, D] -> [B, D]
// Pooling and head: last hidden states [B, T, D] -> [B, C]
at::Tensor classify(const Encoder& encoder, const at::Tensor& hidden, const at::Tensor& mask);

at::Tensor forward_hidden(const Encoder& encoder, const at::Tensor& tokens, const at::Tensor& lengths);  // [B, T, D]
at::Tensor forward_logits(const Encoder& encoder, const at::Tensor& tokens, const at::Tensor& lengths);  // [B, C]

}  // namespace vbon
