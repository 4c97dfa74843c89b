// Weights between a Hugging Face folder and our records. Each architecture gives one table: which tensor of the file is
// which rows of which of ours (queries, keys and values are fused, and so are gate and up), and how it is turned. The
// same table loads and exports, so what is written is what was read.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "vbon/model/causal_lm.hpp"
#include "vbon/store/safetensors.hpp"

namespace vbon {

enum class Turn {
  none,
  transpose,  // GPT-2 stores [in, out]
  by_head,    // GPT-NeoX keeps query, key, value of one head together: [H, 3, d, …]
};

// One tensor of the file and its place: rows [first_row, first_row + shape[0]) of target(model), after `turn`.
struct WeightEntry {
  std::string name;                              // in the file, without the architecture's optional prefix
  std::function<at::Tensor&(CausalLm&)> target;  // whole tensors of the model
  std::vector<std::int64_t> shape;               // of these rows
  std::int64_t first_row = 0;
  Turn turn = Turn::none;
};

std::vector<WeightEntry> weight_table(const LmSpec& spec);

// What load_causal_lm would refuse in the names and shapes of a file's header; empty: nothing. Reads no weights.
std::vector<std::string> weight_problems(const LmSpec& spec, const SafeTensors& file);

// Loads every tensor, converted to `dtype` on `device`. UserError names tensors that are missing or have another shape;
// tensors of the file that the model does not use are logged.
CausalLm load_causal_lm(const std::filesystem::path& folder, at::Device device, at::ScalarType dtype = at::kFloat);
// The same of files that are open; `others`: tensors that belong to something else and are none of its business.
CausalLm load_causal_lm(const LmSpec& spec, const SafeTensors& file, std::span<const std::string> others,
                        at::Device device, at::ScalarType dtype);

// A model of the given shape with weights N(0, deviation) by keyed draws, norms 1 and biases 0.
CausalLm random_causal_lm(const LmSpec& spec, std::uint64_t seed, double deviation = 0.02);

// The model's tensors under their Hugging Face names, turned back: what export writes.
std::vector<std::pair<std::string, at::Tensor>> named_tensors(const CausalLm& model);

struct ExportOptions {
  std::filesystem::path source;  // the folder whose tokenizer files go along
  double temperature = 1.0;      // written into generation_config.json, so that it samples as trained
  std::int64_t max_new_tokens = 0;
};
// The names of tokenizer files that `folder` has, and that go along with a model.
std::vector<std::string> tokenizer_files(const std::filesystem::path& folder);
void copy_tokenizer_files(const std::filesystem::path& from, const std::filesystem::path& to);
// Writes a folder that loads in transformers as it is: model.safetensors, config.json, generation_config.json and the
// tokenizer's files.
void export_causal_lm(const CausalLm& model, const std::filesystem::path& folder, const ExportOptions& options);

}  // namespace vbon
