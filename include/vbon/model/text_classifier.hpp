// A text classifier of either kind, an encoder with a head or a causal language model with one: what scoring and
// training need of it, whichever it is. The folder's config.json decides.
//
// Shapes: B rows, T tokens a row (right-padded), D hidden size, C labels.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "vbon/model/encoder.hpp"
#include "vbon/model/lm_classifier.hpp"

namespace vbon {

using ClassifierSpec = std::variant<EncoderSpec, LmClassifierSpec>;
using TextClassifier = std::variant<Encoder, LmClassifier>;

// What both kinds have.
struct ClassifierFacts {
  ClassifierFacts() = default;
  ClassifierFacts(const EncoderSpec& spec);       // NOLINT(google-explicit-constructor): it is what it is made from
  ClassifierFacts(const LmClassifierSpec& spec);  // NOLINT(google-explicit-constructor)

  std::string model_type;
  std::int64_t vocab_size = 0, hidden_size = 0, num_layers = 0, max_positions = 0;
  std::vector<std::string> label_names;   // [C]; empty without head
  bool independent_labels = false;        // a sigmoid a label
  bool causal = false;                    // the head reads the last token
  std::optional<std::int32_t> end_token;  // of a causal model that names one
};
ClassifierFacts facts_of(const ClassifierSpec& spec);
ClassifierFacts facts_of(const TextClassifier& model);

// UserError naming what the file asks for and we do not implement.
ClassifierSpec read_classifier_spec(const std::filesystem::path& folder);
TextClassifier load_text_classifier(const std::filesystem::path& folder, at::Device device,
                                    at::ScalarType dtype = at::kFloat);

at::Device device_of(const TextClassifier& model);
at::Tensor embed(const TextClassifier& model, const at::Tensor& tokens);  // int64 [B, T] -> [B, T, D]
// Blocks [first, last) on x [B, T, D], with token_mask() of the rows' lengths.
at::Tensor run_blocks(const TextClassifier& model, const at::Tensor& x, const at::Tensor& mask, std::int64_t first,
                      std::int64_t last);
at::Tensor classify(const TextClassifier& model, const at::Tensor& hidden, const at::Tensor& mask);  // -> [B, C]
at::Tensor forward_logits(const TextClassifier& model, const at::Tensor& tokens, const at::Tensor& lengths);

// The model with a head of `labels` labels: its own if it has one of that size, else a new one by keyed draws.
TextClassifier with_head(const TextClassifier& model, std::int64_t labels, std::uint64_t seed);
// Adds `value` to every output from now on: to the head's bias, or to what is subtracted from the output.
void shift_output(TextClassifier& model, double value);

// Writes a folder that load_text_classifier() and transformers load, with the tokenizer's files of `source`.
void export_classifier(const TextClassifier& model, const std::filesystem::path& folder,
                       const std::filesystem::path& source);

}  // namespace vbon
