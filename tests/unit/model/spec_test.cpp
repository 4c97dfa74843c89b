// Sizes in config.json that no model has: what is computed from them must fit, and nothing may be allocated by them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vbon/base/error.hpp"
#include "vbon/model/encoder_spec.hpp"
#include "vbon/model/lm_spec.hpp"

namespace vbon {
namespace {

using testing::HasSubstr;

std::string llama(const std::string& more) {
  return R"({"model_type": "llama", "vocab_size": 1000, "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 128)" +
         more + "}";
}

std::string refusal(const std::string& config) {
  try {
    if (config.find("bert") != std::string::npos) parse_encoder_spec(config, "c");
    else parse_lm_spec(config, "c");
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Spec, sizes_of_no_model_are_refused) {
  EXPECT_EQ(refusal(llama("")), "accepted");
  EXPECT_EQ(count_parameters(parse_lm_spec(llama(""), "c")),
            2 * (2 * 64 + 64 * (3 * 64 + 64 + 3 * 128)) + 64 + 2 * 64000);
  EXPECT_THAT(refusal(llama(R"(, "num_hidden_layers": 5000)")), HasSubstr("5000 layers"));
  EXPECT_THAT(refusal(llama(R"(, "hidden_size": 16777216, "intermediate_size": 16777216, "num_hidden_layers": 4096)")),
              HasSubstr("parameters"));
  EXPECT_THAT(refusal(llama(R"(, "head_dim": 16777216, "num_attention_heads": 16777216)")), HasSubstr("parameters"));
  EXPECT_THAT(refusal(llama(R"(, "max_position_embeddings": 16777216, "head_dim": 128)")), HasSubstr("angles"));
  EXPECT_THAT(refusal(R"({"model_type": "bert", "vocab_size": 9, "hidden_size": 16777216, "num_hidden_layers": 4096,
    "num_attention_heads": 4, "intermediate_size": 16777216})"),
              HasSubstr("parameters"));
}

TEST(Spec, token_ids_are_not_cut_to_their_type) {
  EXPECT_THAT(refusal(llama(R"(, "eos_token_id": 4294967296)")), HasSubstr("'eos_token_id'"));
  EXPECT_THAT(refusal(llama(R"(, "eos_token_id": [0, 18446744073709551615])")), HasSubstr("'eos_token_id'"));
  EXPECT_THAT(refusal(llama(R"(, "eos_token_id": -1)")), HasSubstr("'eos_token_id'"));
}

}  // namespace
}  // namespace vbon
