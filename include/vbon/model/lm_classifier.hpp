// Causal language models with a head on the last token, as a record of tensors and straight functions with the
// signatures of the encoder's: reward models and evaluators. Two layouts of files:
//   …ForSequenceClassification of transformers: the body's tensors and `score.weight`. What is subtracted from the
//     output to centre it has no place in that layout; ours is "vbon": {"bias": number} in config.json.
//   Scalar models of the public TL;DR code: `lm_backbone.*`, `scalar_head.weight`, `scalar_head.bias`; config.json with
//     `base_config` (the body's) and `bias`, which is subtracted.
//
// Shapes: B rows, T tokens a row (right-padded), D hidden size, C labels.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "vbon/model/causal_lm.hpp"

namespace vbon {

struct LmClassifierSpec {
  LmSpec lm;                             // of the body, as if its vocabulary head were tied: there is none
  std::vector<std::string> label_names;  // [C] by id2label; empty without head
  bool independent_labels = false;       // problem_type multi_label_classification: a sigmoid a label
  bool scalar_model = false;             // the second layout
  double bias = 0;                       // subtracted from every output

  std::int64_t num_labels() const { return static_cast<std::int64_t>(label_names.size()); }
};

// Of a folder of either layout, or of a language model without such a head. UserError naming what is not implemented.
LmClassifierSpec read_lm_classifier_spec(const std::filesystem::path& folder);

struct LmClassifier {
  LmClassifierSpec spec;
  CausalLm body;     // its vocabulary head is undefined
  at::Tensor score;  // [C, D], undefined without head

  at::Device device() const { return body.device(); }
  std::int64_t num_layers() const { return body.num_layers(); }
};

// tokens int64 [B, T] -> [B, T, D]
at::Tensor embed(const LmClassifier& model, const at::Tensor& tokens);
// Blocks [first, last) on x [B, T, D]. Padding stands on the right, where no real token looks: no mask is needed.
at::Tensor run_blocks(const LmClassifier& model, const at::Tensor& x, const at::Tensor& mask, std::int64_t first,
                      std::int64_t last);
// Final norm and head at each row's last real token: what the last block gives [B, T, D], token_mask -> [B, C]
at::Tensor classify(const LmClassifier& model, const at::Tensor& hidden, const at::Tensor& mask);

// Every tensor, converted to `dtype` on `device`. UserError as of load_causal_lm, and where the head has another shape.
LmClassifier load_lm_classifier(const std::filesystem::path& folder, at::Device device,
                                at::ScalarType dtype = at::kFloat);

// The model with a head of `labels` labels: its own if it has one of that size, else a new one, N(0, 1/(D + 1)) by
// keyed draws, and bias 0. Other tensors are shared, not copied.
LmClassifier with_head(const LmClassifier& model, std::int64_t labels, std::uint64_t seed);

// The model's tensors under their names in files of the first layout.
std::vector<std::pair<std::string, at::Tensor>> named_tensors(const LmClassifier& model);

// Writes the first layout, with the tokenizer's files of `source`. transformers reads the score at the last token that
// is not its pad token, so `pad_token_id` is left out where it is the end token: that may be the one to be read.
void export_lm_classifier(const LmClassifier& model, const std::filesystem::path& folder,
                          const std::filesystem::path& source);

}  // namespace vbon
