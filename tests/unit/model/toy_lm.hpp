// Small random language models for tests of the layers above: no weight keeps its default, and probabilities are well
// apart, so that a wrong tensor anywhere shows.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <cstdint>
#include <string>

#include "vbon/base/rng.hpp"
#include "vbon/model/causal_lm.hpp"
#include "vbon/model/hf_weights.hpp"

namespace vbon::test {

enum class ToyKind { llama, gpt2, neox };

struct ToyShape {
  ToyKind kind = ToyKind::llama;
  std::int64_t vocab = 13;
  std::int64_t layers = 3;
  bool tied = true;  // of the llama; GPT-2 always is, NeoX never
  double deviation = 0.3;
};

inline constexpr std::int64_t kToyPositions = 48;

inline std::string toy_config(const ToyShape& shape) {
  if (shape.kind == ToyKind::gpt2)
    return fmt::format(R"({{"model_type": "gpt2", "vocab_size": {}, "n_embd": 24, "n_head": 3, "n_layer": {},
      "n_positions": {}, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "eos_token_id": 0}})",
                       shape.vocab, shape.layers, kToyPositions);
  if (shape.kind == ToyKind::neox)
    return fmt::format(R"({{"model_type": "gpt_neox", "vocab_size": {}, "hidden_size": 24, "intermediate_size": 40,
      "num_attention_heads": 3, "num_hidden_layers": {}, "max_position_embeddings": {}, "hidden_act": "gelu",
      "layer_norm_eps": 1e-5, "use_parallel_residual": true, "tie_word_embeddings": false, "eos_token_id": 0,
      "rope_parameters": {{"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}}}})",
                       shape.vocab, shape.layers, kToyPositions);
  return fmt::format(R"({{"model_type": "llama", "vocab_size": {}, "hidden_size": 24, "intermediate_size": 40,
      "num_attention_heads": 6, "num_key_value_heads": 2, "num_hidden_layers": {}, "max_position_embeddings": {},
      "hidden_act": "silu", "rms_norm_eps": 1e-5, "tie_word_embeddings": {}, "eos_token_id": 0}})",
                     shape.vocab, shape.layers, kToyPositions, shape.tied);
}

// Adds keyed normal draws to every number of a tensor.
inline void disturb(at::Tensor tensor, double deviation, std::uint64_t seed) {
  const at::NoGradGuard no_grad;
  const RandomStream stream(seed, Purpose::initialise);
  const at::Tensor noise = tensor.detach().clone().contiguous();
  float* values = noise.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < noise.numel(); ++i) values[i] += static_cast<float>(deviation * stream.normal(i));
  tensor.copy_(noise);
}

inline CausalLm toy_lm(const ToyShape& shape, std::uint64_t seed) {
  CausalLm model = random_causal_lm(parse_lm_spec(toy_config(shape), "toy"), seed, shape.deviation);
  std::uint64_t number = 100;
  for (const WeightEntry& entry : weight_table(model.spec))  // norms are 1 and biases 0 so far
    if (entry.shape.size() == 1) disturb(entry.target(model).narrow(0, entry.first_row, entry.shape[0]), 0.1, ++number);
  return model;
}

}  // namespace vbon::test
