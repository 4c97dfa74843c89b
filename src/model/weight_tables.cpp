// The three tables of names. A new architecture adds its own here and its config in lm_spec.cpp.
#include <fmt/format.h>

#include "vbon/base/error.hpp"
#include "vbon/model/hf_weights.hpp"

namespace vbon {
namespace {

using Shape = std::vector<std::int64_t>;
using Entries = std::vector<WeightEntry>;

auto block_tensor(std::int64_t layer, Linear Block::*part, at::Tensor Linear::*tensor) {
  return [=](CausalLm& m) -> at::Tensor& { return m.blocks[static_cast<std::size_t>(layer)].*part.*tensor; };
}

auto block_norm(std::int64_t layer, Norm Block::*part, at::Tensor Norm::*tensor) {
  return [=](CausalLm& m) -> at::Tensor& { return m.blocks[static_cast<std::size_t>(layer)].*part.*tensor; };
}

auto model_tensor(at::Tensor CausalLm::*tensor) {
  return [=](CausalLm& m) -> at::Tensor& { return m.*tensor; };
}

auto last_norm(at::Tensor Norm::*tensor) {
  return [=](CausalLm& m) -> at::Tensor& { return m.final_norm.*tensor; };
}

// weight [out, in] and, where there is one, bias [out] of NAME.weight and NAME.bias at `row` of a fused layer.
void add_linear(Entries& table, const std::string& name, std::int64_t layer, Linear Block::*part, std::int64_t out,
                std::int64_t in, bool bias, std::int64_t row = 0, Turn turn = Turn::none) {
  table.push_back({name + ".weight", block_tensor(layer, part, &Linear::weight), Shape{out, in}, row, turn});
  if (bias)
    table.push_back({name + ".bias", block_tensor(layer, part, &Linear::bias), Shape{out}, row,
                     turn == Turn::transpose ? Turn::none : turn});
}

void add_norm(Entries& table, const std::string& name, std::int64_t layer, Norm Block::*part, const LmSpec& s) {
  table.push_back({name + ".weight", block_norm(layer, part, &Norm::weight), Shape{s.hidden_size}});
  if (s.norm == NormKind::layer)
    table.push_back({name + ".bias", block_norm(layer, part, &Norm::bias), Shape{s.hidden_size}});
}

void add_ends(Entries& table, const LmSpec& s, const std::string& embedding, const std::string& norm,
              const std::string& head) {
  table.push_back({embedding, model_tensor(&CausalLm::token_embedding), Shape{s.vocab_size, s.hidden_size}});
  table.push_back({norm + ".weight", last_norm(&Norm::weight), Shape{s.hidden_size}});
  if (s.norm == NormKind::layer) table.push_back({norm + ".bias", last_norm(&Norm::bias), Shape{s.hidden_size}});
  if (!s.tied_embeddings) table.push_back({head, model_tensor(&CausalLm::head), Shape{s.vocab_size, s.hidden_size}});
}

Entries llama_table(const LmSpec& s) {
  Entries table;
  add_ends(table, s, "model.embed_tokens.weight", "model.norm", "lm_head.weight");
  for (std::int64_t i = 0; i < s.num_layers; ++i) {
    const std::string at = fmt::format("model.layers.{}.", i);
    add_norm(table, at + "input_layernorm", i, &Block::attention_norm, s);
    add_linear(table, at + "self_attn.q_proj", i, &Block::qkv, s.query_size(), s.hidden_size, s.qkv_bias);
    add_linear(table, at + "self_attn.k_proj", i, &Block::qkv, s.key_size(), s.hidden_size, s.qkv_bias, s.query_size());
    add_linear(table, at + "self_attn.v_proj", i, &Block::qkv, s.key_size(), s.hidden_size, s.qkv_bias,
               s.query_size() + s.key_size());
    add_linear(table, at + "self_attn.o_proj", i, &Block::attention_out, s.hidden_size, s.query_size(),
               s.attention_out_bias);
    add_norm(table, at + "post_attention_layernorm", i, &Block::mlp_norm, s);
    add_linear(table, at + "mlp.gate_proj", i, &Block::mlp_in, s.intermediate_size, s.hidden_size, s.mlp_bias);
    add_linear(table, at + "mlp.up_proj", i, &Block::mlp_in, s.intermediate_size, s.hidden_size, s.mlp_bias,
               s.intermediate_size);
    add_linear(table, at + "mlp.down_proj", i, &Block::mlp_out, s.hidden_size, s.intermediate_size, s.mlp_bias);
  }
  return table;
}

Entries gpt2_table(const LmSpec& s) {
  Entries table;
  add_ends(table, s, "transformer.wte.weight", "transformer.ln_f", "lm_head.weight");
  table.push_back(
      {"transformer.wpe.weight", model_tensor(&CausalLm::position_embedding), Shape{s.max_positions, s.hidden_size}});
  for (std::int64_t i = 0; i < s.num_layers; ++i) {
    const std::string at = fmt::format("transformer.h.{}.", i);
    const std::int64_t d = s.hidden_size;
    add_norm(table, at + "ln_1", i, &Block::attention_norm, s);
    add_linear(table, at + "attn.c_attn", i, &Block::qkv, 3 * d, d, true, 0, Turn::transpose);
    add_linear(table, at + "attn.c_proj", i, &Block::attention_out, d, d, true, 0, Turn::transpose);
    add_norm(table, at + "ln_2", i, &Block::mlp_norm, s);
    add_linear(table, at + "mlp.c_fc", i, &Block::mlp_in, s.intermediate_size, d, true, 0, Turn::transpose);
    add_linear(table, at + "mlp.c_proj", i, &Block::mlp_out, d, s.intermediate_size, true, 0, Turn::transpose);
  }
  return table;
}

Entries gpt_neox_table(const LmSpec& s) {
  Entries table;
  add_ends(table, s, "gpt_neox.embed_in.weight", "gpt_neox.final_layer_norm", "embed_out.weight");
  for (std::int64_t i = 0; i < s.num_layers; ++i) {
    const std::string at = fmt::format("gpt_neox.layers.{}.", i);
    const std::int64_t d = s.hidden_size;
    add_norm(table, at + "input_layernorm", i, &Block::attention_norm, s);
    add_norm(table, at + "post_attention_layernorm", i, &Block::mlp_norm, s);
    add_linear(table, at + "attention.query_key_value", i, &Block::qkv, 3 * d, d, s.qkv_bias, 0, Turn::by_head);
    add_linear(table, at + "attention.dense", i, &Block::attention_out, d, d, s.attention_out_bias);
    add_linear(table, at + "mlp.dense_h_to_4h", i, &Block::mlp_in, s.intermediate_size, d, true);
    add_linear(table, at + "mlp.dense_4h_to_h", i, &Block::mlp_out, d, s.intermediate_size, true);
  }
  return table;
}

}  // namespace

std::vector<WeightEntry> weight_table(const LmSpec& spec) {
  if (spec.model_type == "llama") return llama_table(spec);
  if (spec.model_type == "gpt2") return gpt2_table(spec);
  if (spec.model_type == "gpt_neox") return gpt_neox_table(spec);
  throw InternalError("no weight table for model_type " + spec.model_type);
}

}  // namespace vbon
