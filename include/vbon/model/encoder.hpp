// BERT-like encoders (BERT, DistilBERT) with a classification head, as a record of tensors and straight functions:
// reward models, evaluators and critics. Padding never changes a row: padded keys get no attention at all.
//
// Shapes: B rows, T tokens a row (right-padded), D hidden size, H heads, F intermediate size, C labels.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "vbon/model/layers.hpp"
#include "vbon/model/lm_spec.hpp"

namespace vbon {

// What the head reads.
enum class Pooling {
  none,   // a bare encoder, without a head
  first,  // the first token through a dense layer: tanh (BERT's pooler) or relu (DistilBERT's pre_classifier)
  mean,   // the mean over real tokens (sentence encoders): our own layout, "vbon": {"pooling": "mean"} in config.json
};

struct EncoderSpec {
  std::string model_type;  // "bert", "distilbert"
  std::int64_t vocab_size = 0, hidden_size = 0, num_layers = 0, num_heads = 0, intermediate_size = 0;
  std::int64_t max_positions = 0, num_token_types = 0;  // token types 0: none (DistilBERT)
  double norm_eps = 1e-12;
  Activation activation = Activation::gelu;
  Pooling pooling = Pooling::none;
  bool independent_labels = false;       // problem_type multi_label_classification: a sigmoid a label
  std::vector<std::string> label_names;  // [C] by id2label; empty without head
  std::string config_text;               // the file itself, for export

  std::int64_t num_labels() const { return static_cast<std::int64_t>(label_names.size()); }
  std::int64_t head_dim() const { return hidden_size / num_heads; }
};

// UserError naming what the file asks for and we do not implement (model types, relative positions, decoders …).
EncoderSpec read_encoder_spec(const std::filesystem::path& folder);
EncoderSpec parse_encoder_spec(const std::string& config_text, const std::string& where);

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
