#include "vbon/model/encoder_spec.hpp"

#include "model/labels.hpp"

namespace vbon {
namespace {

double count_parameters(const EncoderSpec& s) {  // as far as they grow with products of sizes
  const auto d = static_cast<double>(s.hidden_size), f = static_cast<double>(s.intermediate_size);
  const auto rows = static_cast<double>(s.vocab_size + s.max_positions + s.num_token_types);
  return static_cast<double>(s.num_layers) * (4 * d * d + 2 * d * f) + rows * d;
}

EncoderSpec parse_bert(const JsonObject& config) {
  const std::string positions = config.text("position_embedding_type", "absolute");
  require(positions == "absolute", "'{}': position_embedding_type '{}' is not supported (supported: absolute)",
          config.where(), positions);
  require(!config.flag("is_decoder", false) && !config.flag("add_cross_attention", false),
          "'{}': a BERT decoder is not supported; an encoder is needed", config.where());
  EncoderSpec spec;
  spec.hidden_size = config.size("hidden_size");
  spec.num_layers = config.size("num_hidden_layers");
  spec.num_heads = config.size("num_attention_heads");
  spec.intermediate_size = config.size("intermediate_size");
  spec.num_token_types = config.size("type_vocab_size", 2);
  spec.norm_eps = config.number("layer_norm_eps", 1e-12);
  spec.activation = activation_named(config.text("hidden_act", "gelu"), config.where());
  return spec;
}

EncoderSpec parse_distilbert(const JsonObject& config) {
  EncoderSpec spec;
  spec.hidden_size = config.size("dim");
  spec.num_layers = config.size("n_layers");
  spec.num_heads = config.size("n_heads");
  spec.intermediate_size = config.size("hidden_dim");
  spec.activation = activation_named(config.text("activation", "gelu"), config.where());
  return spec;
}

void read_head(EncoderSpec& spec, const JsonObject& config) {
  if (config.has("vbon")) {
    const JsonObject ours(config.value()["vbon"], config.where() + "': 'vbon");
    const std::string pooling = ours.text("pooling", "");
    require(pooling == "mean", "'{}': pooling '{}' is not supported (supported: mean)", ours.where(), pooling);
    spec.pooling = Pooling::mean;
  } else if (names_classifier(config)) {
    spec.pooling = Pooling::first;
  }
  if (spec.pooling == Pooling::none) return;
  spec.label_names = label_names(config);
  spec.independent_labels = has_independent_labels(config);
}

}  // namespace

EncoderSpec parse_encoder_spec(const std::string& config_text, const std::string& where) {
  const JsonObject config = JsonObject::parse(config_text, where);
  const std::string type = config.text("model_type", "");
  EncoderSpec spec;
  if (type == "bert") spec = parse_bert(config);
  else if (type == "distilbert") spec = parse_distilbert(config);
  else
    throw UserError("'{}': model_type '{}' is not supported as an encoder (supported: bert, distilbert)", where, type);
  require(!config.has("quantization_config"), "'{}': quantised weights are not supported; give f32, bf16 or f16",
          where);
  spec.model_type = type;
  spec.vocab_size = config.size("vocab_size");
  spec.max_positions = config.size("max_position_embeddings", 512);
  spec.config_text = config_text;
  require_model_size(spec.num_layers, count_parameters(spec), where);
  require(spec.hidden_size % spec.num_heads == 0, "'{}': hidden size {} is not divisible by {} heads", where,
          spec.hidden_size, spec.num_heads);
  require(spec.norm_eps > 0, "'{}': the norm's epsilon must be positive", where);
  read_head(spec, config);
  return spec;
}

EncoderSpec read_encoder_spec(const fs::path& folder) {
  require(fs::is_directory(folder), "'{}' is not a folder; a Hugging Face model folder is needed", folder.string());
  const fs::path path = folder / "config.json";
  require(fs::exists(path), "'{}' has no config.json; a Hugging Face model folder is needed", folder.string());
  return parse_encoder_spec(read_file(path, std::uint64_t{16} << 20), path.string());
}

}  // namespace vbon
