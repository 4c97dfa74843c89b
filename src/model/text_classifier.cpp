#include "vbon/model/text_classifier.hpp"

#include <ATen/core/grad_mode.h>

#include <array>

#include "model/json.hpp"
#include "vbon/model/encoder_weights.hpp"

namespace vbon {
namespace {

bool is_encoder(const fs::path& folder) {
  const fs::path path = folder / "config.json";
  require(fs::exists(path), "'{}' has no config.json; a Hugging Face model folder is needed", folder.string());
  const JsonObject config = JsonObject::read(path);
  const std::string type = config.text("model_type", "");
  if (type == "bert" || type == "distilbert") return true;
  const bool causal =
      config.has("base_config") || config.has("base_model") || type == "llama" || type == "gpt2" || type == "gpt_neox";
  require(causal,
          "'{}': model_type '{}' is not supported as a classifier (supported: the encoders bert and distilbert, the "
          "language models llama, gpt2 and gpt_neox)",
          path.string(), type);
  return false;
}

}  // namespace

ClassifierFacts::ClassifierFacts(const EncoderSpec& spec)
    : model_type(spec.model_type), vocab_size(spec.vocab_size), hidden_size(spec.hidden_size),
      num_layers(spec.num_layers), max_positions(spec.max_positions), label_names(spec.label_names),
      independent_labels(spec.independent_labels) {}

ClassifierFacts::ClassifierFacts(const LmClassifierSpec& spec)
    : model_type(spec.lm.model_type), vocab_size(spec.lm.vocab_size), hidden_size(spec.lm.hidden_size),
      num_layers(spec.lm.num_layers), max_positions(spec.lm.max_positions), label_names(spec.label_names),
      independent_labels(spec.independent_labels), causal(true) {
  if (!spec.lm.eos_ids.empty()) end_token = spec.lm.eos_ids.front();
}

ClassifierFacts facts_of(const ClassifierSpec& spec) {
  return std::visit([](const auto& s) { return ClassifierFacts(s); }, spec);
}

ClassifierFacts facts_of(const TextClassifier& model) {
  return std::visit([](const auto& m) { return ClassifierFacts(m.spec); }, model);
}

ClassifierSpec read_classifier_spec(const fs::path& folder) {
  if (is_encoder(folder)) return read_encoder_spec(folder);
  return read_lm_classifier_spec(folder);
}

TextClassifier load_text_classifier(const fs::path& folder, at::Device device, at::ScalarType dtype) {
  if (is_encoder(folder)) return load_encoder(folder, device, dtype);
  return load_lm_classifier(folder, device, dtype);
}

at::Device device_of(const TextClassifier& model) {
  return std::visit([](const auto& m) { return m.device(); }, model);
}

at::Tensor embed(const TextClassifier& model, const at::Tensor& tokens) {
  return std::visit([&](const auto& m) { return embed(m, tokens); }, model);
}

at::Tensor run_blocks(const TextClassifier& model, const at::Tensor& x, const at::Tensor& mask, std::int64_t first,
                      std::int64_t last) {
  return std::visit([&](const auto& m) { return run_blocks(m, x, mask, first, last); }, model);
}

at::Tensor classify(const TextClassifier& model, const at::Tensor& hidden, const at::Tensor& mask) {
  return std::visit([&](const auto& m) { return classify(m, hidden, mask); }, model);
}

at::Tensor forward_logits(const TextClassifier& model, const at::Tensor& tokens, const at::Tensor& lengths) {
  const at::Tensor mask = token_mask(lengths, tokens.size(1));
  return std::visit(
      [&](const auto& m) { return classify(m, run_blocks(m, embed(m, tokens), mask, 0, m.num_layers()), mask); },
      model);
}

TextClassifier with_head(const TextClassifier& model, std::int64_t labels, std::uint64_t seed) {
  return std::visit([&](const auto& m) -> TextClassifier { return with_head(m, labels, seed); }, model);
}

void shift_output(TextClassifier& model, double value) {
  const at::NoGradGuard no_grad;
  if (auto* const encoder = std::get_if<Encoder>(&model)) encoder->classifier.bias.add_(value);
  else std::get<LmClassifier>(model).spec.bias -= value;
}

void export_classifier(const TextClassifier& model, const fs::path& folder, const fs::path& source) {
  if (const auto* const encoder = std::get_if<Encoder>(&model)) export_encoder(*encoder, folder, source);
  else export_lm_classifier(std::get<LmClassifier>(model), folder, source);
}

}  // namespace vbon
