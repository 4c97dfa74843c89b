// Model folders small enough to write in a test: a random Llama with a real tokenizer.
#pragma once

#include <filesystem>
#include <string>

#include "vbon/model/hf_weights.hpp"

namespace vbon::test {

inline std::string tiny_config(int layers = 2) {
  return R"({"model_type": "llama", "vocab_size": 1104, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 4,
             "num_key_value_heads": 2, "num_hidden_layers": )" +
         std::to_string(layers) +
         R"(, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "eos_token_id": 0})";
}

inline void write_tiny_model(const std::filesystem::path& folder) {
  const CausalLm model = random_causal_lm(parse_lm_spec(tiny_config(), "config.json"), 7);
  export_causal_lm(model, folder, {.source = std::string(VBON_TEST_DATA) + "/golden/text/llama3", .max_new_tokens = 8});
}

}  // namespace vbon::test
