// What an encoder (BERT, DistilBERT) is, read from a Hugging Face `config.json`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

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

}  // namespace vbon
