#include "vbon/model/lm_spec.hpp"

#include "model/json.hpp"

namespace vbon {

Activation activation_named(const std::string& name, const std::string& where) {
  if (name == "silu" || name == "swish") return Activation::silu;
  if (name == "gelu") return Activation::gelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") return Activation::gelu_tanh;
  if (name == "relu") return Activation::relu;
  throw UserError("'{}': activation '{}' is not supported (supported: silu, gelu, gelu_new, gelu_pytorch_tanh, relu)",
                  where, name);
}

void require_model_size(std::int64_t num_layers, double num_parameters, const std::string& where) {
  constexpr std::int64_t kMaxLayers = 4096;
  constexpr double kMaxParameters = 1e14;
  require(num_layers <= kMaxLayers, "'{}': {} layers; at most {} are supported", where, num_layers, kMaxLayers);
  require(num_parameters <= kMaxParameters, "'{}': {:.2g} parameters by its sizes; at most {:.2g} are supported", where,
          num_parameters, kMaxParameters);
}

namespace {

constexpr std::int64_t kMaxRopeValues = std::int64_t{1} << 27;  // angles: a million positions of 128 dimensions

// Count is a whole number, or a double where sizes may be anything.
template <class Count>
Count parameters_of(const LmSpec& s) {
  const auto n = [](std::int64_t size) { return static_cast<Count>(size); };
  const Count norm = s.norm == NormKind::rms ? n(s.hidden_size) : 2 * n(s.hidden_size);
  const Count qkv = n(s.query_size()) + 2 * n(s.key_size());
  const Count mlp_in = s.gated_mlp ? 2 * n(s.intermediate_size) : n(s.intermediate_size);
  Count block = 2 * norm + n(s.hidden_size) * (qkv + n(s.query_size()) + mlp_in + n(s.intermediate_size));
  if (s.qkv_bias) block += qkv;
  if (s.attention_out_bias) block += n(s.hidden_size);
  if (s.mlp_bias) block += mlp_in + n(s.hidden_size);
  Count total = n(s.num_layers) * block + norm + n(s.vocab_size) * n(s.hidden_size);
  if (s.learned_positions) total += n(s.max_positions) * n(s.hidden_size);
  if (!s.tied_embeddings) total += n(s.vocab_size) * n(s.hidden_size);
  return total;
}

// transformers 5 writes `rope_parameters` {rope_theta, rope_type, ...}; older files `rope_theta` and `rope_scaling`.
RopeSpec parse_rope(const JsonObject& config, std::int64_t head_dim, double default_fraction) {
  RopeSpec rope;
  rope.theta = config.number("rope_theta", config.number("rotary_emb_base", 10000.0));
  double fraction = config.number("partial_rotary_factor", config.number("rotary_pct", default_fraction));
  const char* block = config.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (config.has(block)) {
    const JsonObject scaling(config.value()[block], config.where() + "': '" + block);
    rope.theta = scaling.number("rope_theta", rope.theta);
    fraction = scaling.number("partial_rotary_factor", fraction);
    const std::string type = scaling.text("rope_type", scaling.text("type", "default"));
    if (type == "linear") {
      rope.scaling = RopeScaling::linear;
      rope.factor = scaling.number("factor", 1.0);
    } else if (type == "llama3") {
      rope.scaling = RopeScaling::llama3;
      rope.factor = scaling.number("factor", 1.0);
      rope.low_freq_factor = scaling.number("low_freq_factor", 1.0);
      rope.high_freq_factor = scaling.number("high_freq_factor", 4.0);
      rope.original_max_positions =
          scaling.size("original_max_position_embeddings", config.size("max_position_embeddings", 8192));
      require(rope.high_freq_factor > rope.low_freq_factor,
              "'{}': llama3 RoPE needs high_freq_factor > low_freq_factor", config.where());
    } else {
      require(type == "default", "'{}': RoPE type '{}' is not supported (supported: default, linear, llama3)",
              config.where(), type);
    }
    require(rope.factor > 0, "'{}': the RoPE factor must be positive", config.where());
  }
  require(fraction > 0 && fraction <= 1, "'{}': the rotary fraction must be in (0, 1]", config.where());
  require(rope.theta > 0, "'{}': rope_theta must be positive", config.where());
  rope.dims = static_cast<std::int64_t>(static_cast<double>(head_dim) * fraction);
  require(rope.dims % 2 == 0 && rope.dims > 0, "'{}': {} rotary dimensions; an even number is needed", config.where(),
          rope.dims);
  return rope;
}

LmSpec parse_llama(const JsonObject& config) {
  LmSpec spec;
  spec.hidden_size = config.size("hidden_size");
  spec.num_layers = config.size("num_hidden_layers");
  spec.num_heads = config.size("num_attention_heads");
  spec.num_kv_heads = config.size("num_key_value_heads", spec.num_heads);
  spec.head_dim = config.size("head_dim", std::max<std::int64_t>(1, spec.hidden_size / spec.num_heads));
  spec.intermediate_size = config.size("intermediate_size");
  spec.max_positions = config.size("max_position_embeddings", 2048);
  spec.norm = NormKind::rms;
  spec.norm_eps = config.number("rms_norm_eps", 1e-6);
  spec.activation = activation_named(config.text("hidden_act", "silu"), config.where());
  spec.gated_mlp = true;
  spec.tied_embeddings = config.flag("tie_word_embeddings", false);
  spec.qkv_bias = spec.attention_out_bias = config.flag("attention_bias", false);
  spec.mlp_bias = config.flag("mlp_bias", false);
  spec.rope = parse_rope(config, spec.head_dim, 1.0);
  return spec;
}

LmSpec parse_gpt2(const JsonObject& config) {
  LmSpec spec;
  spec.hidden_size = config.size("n_embd");
  spec.num_layers = config.size("n_layer");
  spec.num_heads = spec.num_kv_heads = config.size("n_head");
  spec.head_dim = std::max<std::int64_t>(1, spec.hidden_size / spec.num_heads);
  spec.intermediate_size = config.has("n_inner") ? config.size("n_inner") : 4 * spec.hidden_size;
  spec.max_positions = config.size("n_positions", 1024);
  spec.norm = NormKind::layer;
  spec.norm_eps = config.number("layer_norm_epsilon", 1e-5);
  spec.activation = activation_named(config.text("activation_function", "gelu_new"), config.where());
  spec.learned_positions = true;
  spec.tied_embeddings = config.flag("tie_word_embeddings", true);
  spec.qkv_bias = spec.attention_out_bias = spec.mlp_bias = true;
  spec.scale_by_layer = config.flag("scale_attn_by_inverse_layer_idx", false);
  require(config.flag("scale_attn_weights", true), "'{}': scale_attn_weights: false is not supported", config.where());
  require(!config.flag("add_cross_attention", false), "'{}': cross-attention is not supported", config.where());
  return spec;
}

LmSpec parse_gpt_neox(const JsonObject& config) {
  LmSpec spec;
  spec.hidden_size = config.size("hidden_size");
  spec.num_layers = config.size("num_hidden_layers");
  spec.num_heads = spec.num_kv_heads = config.size("num_attention_heads");
  spec.head_dim = std::max<std::int64_t>(1, spec.hidden_size / spec.num_heads);
  spec.intermediate_size = config.size("intermediate_size");
  spec.max_positions = config.size("max_position_embeddings", 2048);
  spec.norm = NormKind::layer;
  spec.norm_eps = config.number("layer_norm_eps", 1e-5);
  spec.activation = activation_named(config.text("hidden_act", "gelu"), config.where());
  spec.parallel_residual = config.flag("use_parallel_residual", true);
  spec.tied_embeddings = config.flag("tie_word_embeddings", false);
  spec.qkv_bias = spec.attention_out_bias = config.flag("attention_bias", true);
  spec.mlp_bias = true;
  spec.rope = parse_rope(config, spec.head_dim, 0.25);
  return spec;
}

void validate(const LmSpec& spec, const std::string& where) {
  require_model_size(spec.num_layers, parameters_of<double>(spec), where);
  require(spec.max_positions <= kMaxRopeValues / std::max<std::int64_t>(1, spec.rope.dims),
          "'{}': {} positions of {} rotary dimensions; the table of their angles would be too large", where,
          spec.max_positions, spec.rope.dims);
  require(spec.num_heads % spec.num_kv_heads == 0, "'{}': {} heads cannot share {} key-value heads", where,
          spec.num_heads, spec.num_kv_heads);
  require(spec.model_type == "llama" || spec.hidden_size % spec.num_heads == 0,
          "'{}': hidden size {} is not divisible by {} heads", where, spec.hidden_size, spec.num_heads);
  require(spec.norm_eps > 0, "'{}': the norm's epsilon must be positive", where);
  for (const std::int32_t id : spec.eos_ids)
    require(id >= 0 && id < spec.vocab_size, "'{}': eos_token_id {} is outside the vocabulary of {}", where, id,
            spec.vocab_size);
}

}  // namespace

LmSpec parse_lm_spec(const std::string& config_text, const std::string& where) {
  const JsonObject config = JsonObject::parse(config_text, where);
  const std::string type = config.text("model_type", "");
  LmSpec spec;
  if (type == "llama") spec = parse_llama(config);
  else if (type == "gpt2") spec = parse_gpt2(config);
  else if (type == "gpt_neox") spec = parse_gpt_neox(config);
  else
    throw UserError("'{}': model_type '{}' is not supported as a language model (supported: llama, gpt2, gpt_neox)",
                    where, type);
  require(!config.has("quantization_config"), "'{}': quantised weights are not supported; give f32, bf16 or f16",
          where);
  spec.model_type = type;
  spec.vocab_size = config.size("vocab_size");
  spec.eos_ids = config.ids("eos_token_id");
  spec.config_text = config_text;
  validate(spec, where);
  return spec;
}

LmSpec read_lm_spec(const fs::path& folder) {
  require(fs::is_directory(folder), "'{}' is not a folder; a Hugging Face model folder is needed", folder.string());
  const fs::path path = folder / "config.json";
  require(fs::exists(path), "'{}' has no config.json; a Hugging Face model folder is needed", folder.string());
  LmSpec spec = parse_lm_spec(read_file(path, std::uint64_t{16} << 20), path.string());
  const fs::path generation = folder / "generation_config.json";
  if (fs::exists(generation)) {
    const std::vector<std::int32_t> ids = JsonObject::read(generation).ids("eos_token_id");
    if (!ids.empty()) spec.eos_ids = ids;
    validate(spec, generation.string());
  }
  return spec;
}

std::int64_t count_parameters(const LmSpec& spec) { return parameters_of<std::int64_t>(spec); }

}  // namespace vbon
