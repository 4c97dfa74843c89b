#include "vbon/model/lm_classifier.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>

#include <algorithm>
#include <cmath>

#include "model/labels.hpp"
#include "vbon/model/hf_weights.hpp"
#include "vbon/model/tensor_io.hpp"

namespace vbon {
namespace {

constexpr const char* kScore = "score.weight";
constexpr const char* kScalarWeight = "scalar_head.weight";
constexpr const char* kScalarBias = "scalar_head.bias";

LmClassifierSpec read_scalar_spec(const JsonObject& config) {
  require(config.has("base_config"),
          "'{}' names a base_model, but the reward model's own shape is needed: put the content of the base model's "
          "config.json in as 'base_config'",
          config.where());
  const std::string where = config.where() + "': 'base_config";
  const JsonObject base(config.value()["base_config"], where);
  Json inner = base.value();
  if (!base.has("hidden_size") && config.has("hidden_size")) inner["hidden_size"] = config.value()["hidden_size"];
  LmClassifierSpec spec;
  spec.lm = parse_lm_spec(inner.dump(), where);
  spec.label_names = default_labels(1);
  spec.scalar_model = true;
  spec.bias = config.number("bias", 0.0);
  return spec;
}

LmClassifierSpec read_sequence_spec(const JsonObject& config, const fs::path& folder) {
  LmClassifierSpec spec;
  spec.lm = read_lm_spec(folder);
  if (!names_classifier(config)) return spec;
  spec.label_names = label_names(config);
  spec.independent_labels = has_independent_labels(config);
  if (config.has("vbon")) spec.bias = JsonObject(config.value()["vbon"], config.where() + "': 'vbon").number("bias", 0);
  return spec;
}

const char* family_of(const LmSpec& lm) {
  if (lm.model_type == "gpt2") return "GPT2";
  if (lm.model_type == "gpt_neox") return "GPTNeoX";
  check(lm.model_type == "llama", "family_of: a known architecture");
  return "Llama";
}

Json exported_config(const LmClassifier& model) {
  const LmSpec& lm = model.spec.lm;
  Json config = parse_json(lm.config_text, "config.json");
  config["architectures"] = {std::string(family_of(lm)) + "ForSequenceClassification"};
  config[config.contains("torch_dtype") ? "torch_dtype" : "dtype"] =
      model.body.dtype() == at::kBFloat16 ? "bfloat16" : "float32";
  write_labels(config, model.spec.label_names);
  if (!model.spec.independent_labels) config.erase("problem_type");
  if (!lm.eos_ids.empty())
    config["eos_token_id"] = lm.eos_ids.size() == 1 ? Json(lm.eos_ids.front()) : Json(lm.eos_ids);
  const Json pad = config.value("pad_token_id", Json());
  if (std::any_of(lm.eos_ids.begin(), lm.eos_ids.end(), [&](std::int32_t id) { return pad == Json(id); }))
    config.erase("pad_token_id");
  config.erase("vbon");
  if (model.spec.bias != 0) config["vbon"] = {{"bias", model.spec.bias}};
  return config;
}

}  // namespace

LmClassifierSpec read_lm_classifier_spec(const fs::path& folder) {
  const JsonObject config = JsonObject::read(folder / "config.json");
  const bool scalar = config.has("base_config") || config.has("base_model");
  LmClassifierSpec spec = scalar ? read_scalar_spec(config) : read_sequence_spec(config, folder);
  require(std::isfinite(spec.bias), "'{}': 'bias' is not finite", config.where());
  spec.lm.tied_embeddings = true;
  return spec;
}

at::Tensor embed(const LmClassifier& model, const at::Tensor& tokens) {
  const std::int64_t batch = tokens.size(0), length = tokens.size(1);
  check(length <= model.spec.lm.max_positions, "embed: a row longer than the model's positions");
  return embed(model.body, tokens.reshape({batch * length}), row_positions(batch, length, tokens.device()))
      .view({batch, length, -1});
}

at::Tensor run_blocks(const LmClassifier& model, const at::Tensor& x, const at::Tensor& /*mask*/, std::int64_t first,
                      std::int64_t last) {
  const std::int64_t batch = x.size(0), length = x.size(1);
  return run_blocks(model.body, x.reshape({batch * length, x.size(2)}), row_positions(batch, length, x.device()), first,
                    last, full_attention(model.spec.lm, batch, length))
      .view({batch, length, -1});
}

at::Tensor classify(const LmClassifier& model, const at::Tensor& hidden, const at::Tensor& mask) {
  check(model.score.defined(), "classify: a language model without a head");
  const std::int64_t batch = hidden.size(0), length = hidden.size(1);
  const at::Tensor lengths = mask.view({batch, length}).sum(1);
  const at::Tensor rows = at::arange(batch, lengths.options()) * length + lengths - 1;
  const at::Tensor last = hidden.reshape({batch * length, hidden.size(2)}).index_select(0, rows);
  return linear(final_hidden(model.body, last), {model.score, {}}) - model.spec.bias;
}

LmClassifier load_lm_classifier(const fs::path& folder, at::Device device, at::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  LmClassifier model{.spec = read_lm_classifier_spec(folder), .body = {}, .score = {}};
  const SafeTensors file = SafeTensors::open_folder(folder);
  std::vector<std::string> own;
  if (model.spec.num_labels() > 0) {
    own.emplace_back(model.spec.scalar_model ? kScalarWeight : kScore);
    model.score =
        load_tensor(file, own.front(), {model.spec.num_labels(), model.spec.lm.hidden_size}, dtype).to(device);
  }
  if (model.spec.scalar_model) {
    own.emplace_back(kScalarBias);
    model.spec.bias -= load_tensor(file, kScalarBias, {1}, at::kFloat).item<double>();
  }
  model.body = load_causal_lm(model.spec.lm, file, own, device, dtype);
  model.body.head = at::Tensor();
  return model;
}

LmClassifier with_head(const LmClassifier& model, std::int64_t labels, std::uint64_t seed) {
  check(labels >= 1, "with_head: at least one label");
  if (model.spec.num_labels() == labels) return model;
  LmClassifier result = model;
  result.spec.label_names = default_labels(labels);
  result.spec.independent_labels = result.spec.scalar_model = false;
  result.spec.bias = 0;
  const std::int64_t d = model.spec.lm.hidden_size;
  const double deviation = 1.0 / std::sqrt(static_cast<double>(d + 1));
  result.score =
      drawn_head(labels, d, deviation, seed).to(at::TensorOptions(model.body.dtype()).device(model.device()));
  return result;
}

std::vector<std::pair<std::string, at::Tensor>> named_tensors(const LmClassifier& model) {
  std::vector<std::pair<std::string, at::Tensor>> tensors = named_tensors(model.body);
  if (model.score.defined()) tensors.emplace_back(kScore, model.score.detach());
  return tensors;
}

void export_lm_classifier(const LmClassifier& model, const fs::path& folder, const fs::path& source) {
  check(model.score.defined(), "export_lm_classifier: a model with a head");
  make_folders(folder);
  copy_tokenizer_files(source, folder);
  write_file_atomically(folder / "config.json", exported_config(model).dump(2) + "\n");
  write_tensors(folder / "model.safetensors", named_tensors(model));
}

}  // namespace vbon
