// Writes a small random language model as a Hugging Face folder: make_toy OUT TOKENIZER_FOLDER SEED [DEVIATION]
#include <fmt/format.h>

#include <cstdlib>

#include "vbon/model/hf_weights.hpp"
#include "vbon/text/tokenizer.hpp"

int main(int argc, char** argv) {
  using namespace vbon;
  if (argc < 4) return fmt::print(stderr, "usage: make_toy OUT TOKENIZER_FOLDER SEED [DEVIATION]\n"), 2;
  const Tokenizer tokenizer = Tokenizer::load(argv[2]);
  const std::string config = fmt::format(
      R"({{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": {}, "hidden_size": 32,
"intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
"max_position_embeddings": 128, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "hidden_act": "silu",
"bos_token_id": 0, "eos_token_id": 0, "rope_parameters": {{"rope_type": "default", "rope_theta": 10000.0}}}})",
      tokenizer.vocab_size());
  const LmSpec spec = parse_lm_spec(config, "make_toy");
  const CausalLm model = random_causal_lm(spec, static_cast<std::uint64_t>(std::atoll(argv[3])), argc > 4 ? std::atof(argv[4]) : 0.1);
  export_causal_lm(model, argv[1], {.source = argv[2]});
  return 0;
}
