#include "vbon/model/encoder_weights.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "model/labels.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/words.hpp"
#include "vbon/model/hf_weights.hpp"
#include "vbon/model/tensor_io.hpp"

namespace vbon {
namespace {

using Shape = std::vector<std::int64_t>;
using Entries = std::vector<EncoderEntry>;

constexpr double kHeadDeviation = 0.02;  // as transformers draws new heads

auto encoder_tensor(at::Tensor Encoder::*tensor) {
  return [=](Encoder& e) -> at::Tensor& { return e.*tensor; };
}

template <class Part>
auto encoder_part(Part Encoder::*part, at::Tensor Part::*tensor) {
  return [=](Encoder& e) -> at::Tensor& { return e.*part.*tensor; };
}

template <class Part>
auto block_part(std::int64_t layer, Part EncoderBlock::*part, at::Tensor Part::*tensor) {
  return [=](Encoder& e) -> at::Tensor& { return e.blocks[static_cast<std::size_t>(layer)].*part.*tensor; };
}

// NAME.weight [out, in] and NAME.bias [out] at `row` of a fused layer of block `layer`.
void add_linear(Entries& table, const std::string& name, std::int64_t layer, Linear EncoderBlock::*part,
                std::int64_t out, std::int64_t in, std::int64_t row = 0) {
  table.push_back({name + ".weight", block_part(layer, part, &Linear::weight), Shape{out, in}, row});
  table.push_back({name + ".bias", block_part(layer, part, &Linear::bias), Shape{out}, row});
}

void add_norm(Entries& table, const std::string& name, std::int64_t layer, Norm EncoderBlock::*part,
              std::int64_t size) {
  table.push_back({name + ".weight", block_part(layer, part, &Norm::weight), Shape{size}});
  table.push_back({name + ".bias", block_part(layer, part, &Norm::bias), Shape{size}});
}

void add_dense(Entries& table, const std::string& name, Linear Encoder::*part, std::int64_t out, std::int64_t in,
               bool optional = false) {
  table.push_back({name + ".weight", encoder_part(part, &Linear::weight), Shape{out, in}, 0, optional});
  table.push_back({name + ".bias", encoder_part(part, &Linear::bias), Shape{out}, 0, optional});
}

void add_embeddings(Entries& table, const EncoderSpec& s, const std::string& prefix) {
  const std::string at = prefix + "embeddings.";
  const std::int64_t d = s.hidden_size;
  table.push_back({at + "word_embeddings.weight", encoder_tensor(&Encoder::token_embedding), Shape{s.vocab_size, d}});
  table.push_back(
      {at + "position_embeddings.weight", encoder_tensor(&Encoder::position_embedding), Shape{s.max_positions, d}});
  if (s.num_token_types > 0)
    table.push_back(
        {at + "token_type_embeddings.weight", encoder_tensor(&Encoder::type_embedding), Shape{s.num_token_types, d}});
  table.push_back({at + "LayerNorm.weight", encoder_part(&Encoder::embedding_norm, &Norm::weight), Shape{d}});
  table.push_back({at + "LayerNorm.bias", encoder_part(&Encoder::embedding_norm, &Norm::bias), Shape{d}});
}

void add_bert_blocks(Entries& table, const EncoderSpec& s, const std::string& prefix) {
  const std::int64_t d = s.hidden_size;
  for (std::int64_t i = 0; i < s.num_layers; ++i) {
    const std::string at = fmt::format("{}encoder.layer.{}.", prefix, i);
    add_linear(table, at + "attention.self.query", i, &EncoderBlock::qkv, d, d, 0);
    add_linear(table, at + "attention.self.key", i, &EncoderBlock::qkv, d, d, d);
    add_linear(table, at + "attention.self.value", i, &EncoderBlock::qkv, d, d, 2 * d);
    add_linear(table, at + "attention.output.dense", i, &EncoderBlock::attention_out, d, d);
    add_norm(table, at + "attention.output.LayerNorm", i, &EncoderBlock::attention_norm, d);
    add_linear(table, at + "intermediate.dense", i, &EncoderBlock::mlp_in, s.intermediate_size, d);
    add_linear(table, at + "output.dense", i, &EncoderBlock::mlp_out, d, s.intermediate_size);
    add_norm(table, at + "output.LayerNorm", i, &EncoderBlock::mlp_norm, d);
  }
}

void add_distilbert_blocks(Entries& table, const EncoderSpec& s, const std::string& prefix) {
  const std::int64_t d = s.hidden_size;
  for (std::int64_t i = 0; i < s.num_layers; ++i) {
    const std::string at = fmt::format("{}transformer.layer.{}.", prefix, i);
    add_linear(table, at + "attention.q_lin", i, &EncoderBlock::qkv, d, d, 0);
    add_linear(table, at + "attention.k_lin", i, &EncoderBlock::qkv, d, d, d);
    add_linear(table, at + "attention.v_lin", i, &EncoderBlock::qkv, d, d, 2 * d);
    add_linear(table, at + "attention.out_lin", i, &EncoderBlock::attention_out, d, d);
    add_norm(table, at + "sa_layer_norm", i, &EncoderBlock::attention_norm, d);
    add_linear(table, at + "ffn.lin1", i, &EncoderBlock::mlp_in, s.intermediate_size, d);
    add_linear(table, at + "ffn.lin2", i, &EncoderBlock::mlp_out, d, s.intermediate_size);
    add_norm(table, at + "output_layer_norm", i, &EncoderBlock::mlp_norm, d);
  }
}

// The name under which the file has the entry's tensor; empty: under none.
std::string name_in_file(const SafeTensors& file, const std::string& name, const std::string& prefix) {
  std::vector<std::string> names = {name, name.starts_with(prefix) ? name.substr(prefix.size()) : prefix + name};
  if (name.find("LayerNorm") != std::string::npos)
    for (std::size_t i = 0; i < 2; ++i)
      names.push_back(names[i].substr(0, names[i].rfind('.')) + (name.ends_with("weight") ? ".gamma" : ".beta"));
  const auto found = std::find_if(names.begin(), names.end(), [&](const auto& n) { return file.find(n) != nullptr; });
  return found == names.end() ? std::string() : *found;
}

void warn_of_unused(const SafeTensors& file, const std::set<std::string>& used) {
  std::vector<std::string> unused;
  for (const TensorView& view : file.tensors())
    if (!used.contains(view.name) && !view.name.ends_with("position_ids")) unused.push_back(view.name);
  if (unused.empty()) return;
  const std::size_t shown = std::min<std::size_t>(unused.size(), 5);
  log::warn("'{}' holds {} tensors that this encoder does not use: {}{}", file.path().string(), unused.size(),
            joined(std::span(unused).first(shown)), unused.size() > shown ? ", …" : "");
}

void allocate(Encoder& encoder, const Entries& table, const at::TensorOptions& options) {
  std::map<at::Tensor*, Shape> shapes;
  for (const EncoderEntry& entry : table) {
    Shape& shape = shapes[&entry.target(encoder)];
    if (shape.empty()) shape = entry.shape;
    shape[0] = std::max(shape[0], entry.first_row + entry.shape[0]);
  }
  for (auto& [tensor, shape] : shapes) *tensor = at::empty(shape, options);
}

void require_shape(const SafeTensors& file, const std::string& name, const Shape& shape) {
  const Shape& found = file.at(name).shape;
  require(found == shape, "'{}': tensor '{}' has shape [{}], but config.json asks for [{}]", file.path().string(), name,
          fmt::join(found, ", "), fmt::join(shape, ", "));
}

std::string prefix_of(const EncoderSpec& spec) { return spec.model_type + "."; }

// config.json of the folder that export_encoder() writes.
Json exported_config(const Encoder& encoder) {
  const EncoderSpec& s = encoder.spec;
  Json config = parse_json(s.config_text, "config.json");
  config[config.contains("torch_dtype") ? "torch_dtype" : "dtype"] =
      encoder.dtype() == at::kBFloat16 ? "bfloat16" : "float32";
  const std::string family = s.model_type == "bert" ? "Bert" : "DistilBert";
  config["architectures"] = {family + (s.pooling == Pooling::first ? "ForSequenceClassification" : "Model")};
  if (s.pooling == Pooling::none) return config;
  write_labels(config, s.label_names);
  if (s.pooling == Pooling::mean) config["vbon"] = {{"pooling", "mean"}, {"labels", s.num_labels()}};
  return config;
}

}  // namespace

Entries weight_table(const EncoderSpec& spec) {
  const bool bert = spec.model_type == "bert";
  const std::string prefix = spec.pooling == Pooling::first ? prefix_of(spec) : "";
  const std::int64_t d = spec.hidden_size;
  Entries table;
  add_embeddings(table, spec, prefix);
  if (bert) add_bert_blocks(table, spec, prefix);
  else add_distilbert_blocks(table, spec, prefix);
  if (bert) add_dense(table, prefix + "pooler.dense", &Encoder::pooler, d, d, spec.pooling != Pooling::first);
  else if (spec.pooling == Pooling::first) add_dense(table, "pre_classifier", &Encoder::pooler, d, d);
  if (spec.pooling != Pooling::none) add_dense(table, "classifier", &Encoder::classifier, spec.num_labels(), d);
  return table;
}

Encoder load_encoder(const fs::path& folder, at::Device device, at::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  Encoder encoder;
  encoder.spec = read_encoder_spec(folder);
  const SafeTensors file = SafeTensors::open_folder(folder);
  encoder.blocks.resize(static_cast<std::size_t>(encoder.spec.num_layers));
  // Everything is looked up, and its shape compared, before anything large is allocated.
  Entries table;
  std::set<std::string> used;
  std::vector<std::string> missing, found;
  for (EncoderEntry& entry : weight_table(encoder.spec)) {
    const std::string name = name_in_file(file, entry.name, prefix_of(encoder.spec));
    if (name.empty()) {
      if (!entry.optional) missing.push_back(entry.name);
      continue;
    }
    require_shape(file, name, entry.shape);
    used.insert(name);
    found.push_back(name);
    table.push_back(std::move(entry));
  }
  require(missing.empty(), "'{}' lacks {} tensors that its config.json ({}) needs, the first: {}", folder.string(),
          missing.size(), encoder.spec.model_type, missing.empty() ? "" : missing.front());
  allocate(encoder, table, at::TensorOptions(dtype).device(device));
  for (std::size_t i = 0; i < table.size(); ++i)
    table[i]
        .target(encoder)
        .narrow(0, table[i].first_row, table[i].shape[0])
        .copy_(load_tensor(file, found[i], table[i].shape, dtype));
  warn_of_unused(file, used);
  return encoder;
}

Encoder with_head(const Encoder& encoder, std::int64_t labels, std::uint64_t seed) {
  check(labels >= 1, "with_head: at least one label");
  if (encoder.spec.pooling != Pooling::none && encoder.spec.num_labels() == labels) return encoder;
  Encoder result = encoder;
  if (result.spec.pooling == Pooling::none) result.spec.pooling = Pooling::mean;
  result.spec.independent_labels = false;
  result.spec.label_names = default_labels(labels);
  const std::int64_t d = encoder.spec.hidden_size;
  const auto options = at::TensorOptions(encoder.dtype()).device(encoder.device());
  result.classifier = {drawn_head(labels, d, kHeadDeviation, seed).to(options), at::zeros({labels}, options)};
  return result;
}

std::vector<std::pair<std::string, at::Tensor>> named_tensors(const Encoder& encoder) {
  std::vector<std::pair<std::string, at::Tensor>> result;
  Encoder view = encoder;  // tables want a mutable encoder; tensors are handles, nothing is copied
  for (const EncoderEntry& entry : weight_table(encoder.spec)) {
    const at::Tensor& target = entry.target(view);
    if (entry.optional && !target.defined()) continue;
    result.emplace_back(entry.name, target.detach().narrow(0, entry.first_row, entry.shape[0]).contiguous());
  }
  return result;
}

void export_encoder(const Encoder& encoder, const fs::path& folder, const fs::path& source) {
  make_folders(folder);
  copy_tokenizer_files(source, folder);
  write_file_atomically(folder / "config.json", exported_config(encoder).dump(2) + "\n");
  write_tensors(folder / "model.safetensors", named_tensors(encoder));
}

}  // namespace vbon
