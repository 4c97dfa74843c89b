// Writes a small random language model as a Hugging Face folder:
//   make_toy OUT TOKENIZER_FOLDER SEED [DEVIATION [llama | gpt2 | gpt_neox]]
#include <fmt/format.h>

#include <cstdlib>
#include <string_view>

#include "vbon/base/error.hpp"
#include "vbon/model/hf_weights.hpp"
#include "vbon/text/tokenizer.hpp"

namespace {

std::string config_text(std::string_view kind, std::int64_t vocab_size) {
  if (kind == "llama")
    return fmt::format(
        R"({{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": {}, "hidden_size": 32,
"intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
"max_position_embeddings": 128, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "hidden_act": "silu",
"bos_token_id": 0, "eos_token_id": 0, "rope_parameters": {{"rope_type": "default", "rope_theta": 10000.0}}}})",
        vocab_size);
  if (kind == "gpt2")
    return fmt::format(
        R"({{"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": {}, "n_embd": 32, "n_layer": 3,
"n_head": 4, "n_positions": 128, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new",
"bos_token_id": 0, "eos_token_id": 0}})",
        vocab_size);
  vbon::require(kind == "gpt_neox", "no toy of kind '{}'", kind);
  return fmt::format(
      R"({{"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "vocab_size": {}, "hidden_size": 32,
"intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 128,
"layer_norm_eps": 1e-5, "hidden_act": "gelu", "rotary_pct": 0.25, "use_parallel_residual": true,
"tie_word_embeddings": false, "bos_token_id": 0, "eos_token_id": 0}})",
      vocab_size);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace vbon;
  if (argc < 4) return fmt::print(stderr, "usage: make_toy OUT TOKENIZER_FOLDER SEED [DEVIATION [KIND]]\n"), 2;
  const Tokenizer tokenizer = Tokenizer::load(argv[2]);
  const LmSpec spec = parse_lm_spec(config_text(argc > 5 ? argv[5] : "llama", tokenizer.vocab_size()), "make_toy");
  const CausalLm model =
      random_causal_lm(spec, static_cast<std::uint64_t>(std::atoll(argv[3])), argc > 4 ? std::atof(argv[4]) : 0.1);
  export_causal_lm(model, argv[1], {.source = argv[2]});
  return 0;
}
