// Encoders between Hugging Face folders and our record. One table of names loads and exports; files may carry the
// architecture's prefix ("bert.", "distilbert.") or leave it out, and old ones call norms' tensors gamma and beta.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "vbon/model/encoder.hpp"

namespace vbon {

// One tensor of the file: rows [first_row, first_row + shape[0]) of target(encoder).
struct EncoderEntry {
  std::string name;  // as export writes it
  std::function<at::Tensor&(Encoder&)> target;
  std::vector<std::int64_t> shape;
  std::int64_t first_row = 0;
  bool optional = false;  // a bare BERT's pooler: many sentence encoders come without
};

std::vector<EncoderEntry> weight_table(const EncoderSpec& spec);

// Loads every tensor, converted to `dtype` on `device`. UserError names tensors that are missing or have another shape;
// tensors of the file that the encoder does not use are logged.
Encoder load_encoder(const std::filesystem::path& folder, at::Device device, at::ScalarType dtype = at::kFloat);

// The encoder with a head of `labels` labels: its own if it has one of that size, else a new one with weights
// N(0, 0.02) by keyed draws and biases 0; a bare encoder gets Pooling::mean. Other tensors are shared, not copied.
Encoder with_head(const Encoder& encoder, std::int64_t labels, std::uint64_t seed);

// The encoder's tensors under their names in files.
std::vector<std::pair<std::string, at::Tensor>> named_tensors(const Encoder& encoder);

// Writes model.safetensors, config.json and the tokenizer's files of `source`. With Pooling::first transformers loads
// the folder as …ForSequenceClassification; with Pooling::mean it loads the body as BertModel or DistilBertModel.
void export_encoder(const Encoder& encoder, const std::filesystem::path& folder, const std::filesystem::path& source);

}  // namespace vbon
