// What a causal language model is, read from a Hugging Face `config.json`: one plain record that covers the Llama
// family, GPT-2 and GPT-NeoX. Whatever a file asks for and we do not implement is a UserError that names it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace vbon {

// UserError for sizes that no model has and that sums of bytes could not hold.
void require_model_size(std::int64_t num_layers, double num_parameters, const std::string& where);

enum class NormKind { rms, layer };
enum class Activation { silu, gelu, gelu_tanh, relu };
// Of a config.json's name for it; UserError listing those supported.
Activation activation_named(const std::string& name, const std::string& where);

enum class RopeScaling { none, linear, llama3 };

struct RopeSpec {
  std::int64_t dims = 0;  // rotated dimensions of a head; 0: no rotary positions
  double theta = 10000.0;
  RopeScaling scaling = RopeScaling::none;
  double factor = 1.0;                                   // linear and llama3
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  std::int64_t original_max_positions = 0;               // llama3
  bool operator==(const RopeSpec&) const = default;
};

struct LmSpec {
  std::string model_type;  // "llama", "gpt2", "gpt_neox"
  std::int64_t vocab_size = 0, hidden_size = 0, num_layers = 0, num_heads = 0, num_kv_heads = 0, head_dim = 0;
  std::int64_t intermediate_size = 0, max_positions = 0;
  NormKind norm = NormKind::rms;
  double norm_eps = 1e-5;
  Activation activation = Activation::silu;
  RopeSpec rope;
  bool gated_mlp = false;          // act(gate) * up
  bool parallel_residual = false;  // x + attention(norm1 x) + mlp(norm2 x)
  bool learned_positions = false;  // an embedding a position (GPT-2)
  bool tied_embeddings = false;    // the head is the token embedding
  bool qkv_bias = false, attention_out_bias = false, mlp_bias = false;
  bool scale_by_layer = false;        // GPT-2's scale_attn_by_inverse_layer_idx
  std::vector<std::int32_t> eos_ids;  // generation_config.json's, else config.json's
  std::string config_text;            // the file itself, for export

  bool operator==(const LmSpec&) const = default;
  std::int64_t query_size() const { return num_heads * head_dim; }
  std::int64_t key_size() const { return num_kv_heads * head_dim; }
};

LmSpec read_lm_spec(const std::filesystem::path& folder);
// From text, `where` naming it in errors; eos_ids from this text alone.
LmSpec parse_lm_spec(const std::string& config_text, const std::string& where);

// All parameters of such a model, tied ones once.
std::int64_t count_parameters(const LmSpec& spec);

}  // namespace vbon
