// Causal language models as reward models: against transformers (tests/golden/reward/make_lm_classifiers.py) in either
// layout, bit for bit whatever a row is scored together with, exported, refused.
#include "vbon/model/lm_classifier.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "unit/reward/scratch.hpp"
#include "vbon/base/files.hpp"
#include "vbon/model/hf_weights.hpp"
#include "vbon/model/tensor_io.hpp"
#include "vbon/reward/classifier.hpp"
#include "vbon/reward/scorer.hpp"

namespace vbon {
namespace {

using nlohmann::json;
using test::refusal;
using testing::AllOf;
using testing::HasSubstr;

fs::path golden(const std::string& name) { return fs::path(VBON_TEST_DATA) / "golden/reward" / name; }

json expected(const std::string& name) {
  std::ifstream file(golden(name) / "expected.json");
  return json::parse(file);
}

json config_of(const fs::path& folder) { return json::parse(read_file(folder / "config.json")); }

class LmReward : public testing::TestWithParam<const char*> {
 protected:
  RewardConfig config(bool append_eos) const {
    return {.path = golden(GetParam()),
            .output = RewardOutput::logit,
            .round = 0,
            .batch = 3,
            .max_length = want_.at("max_length"),
            .append_eos = append_eos};
  }
  std::vector<float> scores(const RewardConfig& c) const {
    std::vector<std::pair<std::string, std::string>> pairs;
    for (const json& row : want_.at("rows")) pairs.emplace_back(row.at("prompt"), row.at("response"));
    std::vector<PromptResponse> views;
    for (const auto& [prompt, response] : pairs) views.push_back({prompt, response});
    return make_reward(c, at::kCPU).score(views);
  }
  json want_ = expected(GetParam());
};

TEST_P(LmReward, is_that_of_transformers_at_the_last_token) {
  for (const bool append_eos : {false, true}) {
    const std::size_t labels = want_.at("rows")[0].at("plain").at("logits").size();
    for (std::size_t label = 0; label < labels; ++label) {
      RewardConfig c = config(append_eos);
      c.label = std::to_string(label);
      const std::vector<float> got = scores(c);
      ASSERT_EQ(got.size(), want_.at("rows").size());
      for (std::size_t i = 0; i < got.size(); ++i) {
        const json& logits = want_.at("rows")[i].at(append_eos ? "ended" : "plain").at("logits");
        const double other = labels == 2 ? logits[1 - label].get<double>() : 0.0;
        EXPECT_NEAR(got[i], logits[label].get<double>() - other, 1e-5)  // float32 logits of size 3
            << i << " label " << label << " append_eos " << append_eos;
      }
    }
  }
}

TEST_P(LmReward, tokens_are_the_end_of_a_long_text_and_the_end_token) {
  for (const bool append_eos : {false, true}) {
    const TextRows text(Tokenizer::load(golden(GetParam())), facts_of(read_classifier_spec(golden(GetParam()))),
                        want_.at("max_length"), append_eos);
    for (const json& row : want_.at("rows"))
      EXPECT_EQ(json(text.encode(row.at("prompt").get<std::string>() + row.at("response").get<std::string>())),
                row.at(append_eos ? "ended" : "plain").at("ids"));
    EXPECT_FALSE(text.encode("").empty());  // the tokenizer's start, or the end token
  }
}

TEST_P(LmReward, export_keeps_every_score) {
  const test::Scratch scratch;
  const LmClassifier model = load_lm_classifier(golden(GetParam()), at::kCPU);
  export_lm_classifier(model, scratch / "model", golden(GetParam()));
  RewardConfig c = config(true);
  const std::vector<float> before = scores(c);
  c.path = scratch / "model";
  const std::vector<float> after = scores(c);
  for (std::size_t i = 0; i < before.size(); ++i) EXPECT_EQ(before[i], after[i]) << i;
  const SafeTensors file = SafeTensors::open_folder(c.path);
  EXPECT_NE(file.find("score.weight"), nullptr);
  EXPECT_EQ(file.tensors().size(), named_tensors(model).size());
  EXPECT_THAT(config_of(c.path).at("architectures")[0].get<std::string>(),
              testing::MatchesRegex("(GPT2|GPTNeoX|Llama)ForSequenceClassification"));
}

INSTANTIATE_TEST_SUITE_P(Layouts, LmReward, testing::Values("lm_gpt2", "lm_neox", "lm_llama", "lm_scalar"),
                         [](const auto& test_info) { return std::string(test_info.param); });

TEST(LmClassifier, labels_have_the_names_of_the_file) {
  EXPECT_EQ(read_lm_classifier_spec(golden("lm_llama")).label_names, (std::vector<std::string>{"bad", "fair", "good"}));
  EXPECT_EQ(read_lm_classifier_spec(golden("lm_neox")).num_labels(), 2);
  EXPECT_NEAR(read_lm_classifier_spec(golden("lm_scalar")).bias, 0.37, 1e-12);
}

TEST(LmClassifier, a_reward_is_one_to_the_bit_whatever_it_is_scored_together_with) {
  LmSpec spec = parse_lm_spec(
      R"({"model_type":"gpt2","vocab_size":1100,"n_embd":384,"n_layer":1,"n_head":12,"n_positions":128,
          "eos_token_id":0})",
      "config.json");
  LmClassifier wide{.spec = {.lm = spec}, .body = random_causal_lm(spec, 11, 0.05), .score = {}};
  wide = with_head(wide, 2, 5);
  const TextClassifier model = wide;
  const TextRows text(Tokenizer::load(golden("lm_gpt2")), facts_of(model), 128);
  std::mt19937 engine(3);
  std::vector<TokenRow> rows;
  for (int i = 0; i < 40; ++i) {
    std::string line = "Film " + std::to_string(i);
    for (std::size_t k = engine() % 30; k > 0; --k) line += engine() % 2 == 0 ? " never great" : " plot!";
    rows.push_back(text.encode(line));
  }
  const int threads = at::get_num_threads();
  for (const int count : {1, 2}) {
    at::set_num_threads(count);
    const at::Tensor whole = classifier_logits(model, rows, text, 16);
    ASSERT_GT((whole.amax(0) - whole.amin(0)).min().item<double>(), 0.1) << "scores that differ between texts";
    std::vector<std::size_t> order(rows.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    for (const std::size_t size : {order.size(), std::size_t{9}, std::size_t{1}}) {
      std::shuffle(order.begin(), order.end(), engine);
      std::vector<TokenRow> some;
      for (std::size_t i = 0; i < size; ++i) some.push_back(rows[order[i]]);
      const at::Tensor logits = classifier_logits(model, some, text, 16);
      for (std::size_t i = 0; i < size; ++i)
        EXPECT_TRUE(logits[static_cast<std::int64_t>(i)].equal(whole[static_cast<std::int64_t>(order[i])])) << i;
    }
  }
  at::set_num_threads(threads);
}

TEST(LmClassifier, a_head_of_the_right_size_is_kept_and_another_replaced) {
  const LmClassifier model = load_lm_classifier(golden("lm_scalar"), at::kCPU);
  EXPECT_TRUE(with_head(model, 1, 1).score.is_same(model.score));
  EXPECT_EQ(with_head(model, 1, 1).spec.bias, model.spec.bias);
  const LmClassifier two = with_head(model, 2, 1);
  EXPECT_EQ(two.score.sizes(), (std::vector<std::int64_t>{2, 16}));
  EXPECT_EQ(two.spec.bias, 0);
  EXPECT_TRUE(two.score.equal(with_head(model, 2, 1).score));
  EXPECT_FALSE(two.score.equal(with_head(model, 2, 2).score));
}

// Of transformers' own reading of an exported folder: a pad token that is the end token would hide the end token.
TEST(LmClassifier, export_leaves_out_a_pad_token_that_is_the_end_token) {
  const test::Scratch scratch;
  for (const auto& [pad, kept] : {std::pair{0, false}, std::pair{5, true}}) {
    const fs::path folder = scratch / std::to_string(pad), out = scratch / ("out" + std::to_string(pad));
    fs::copy(golden("lm_gpt2"), folder);
    json config = config_of(folder);
    config["pad_token_id"] = pad;
    write_file_atomically(folder / "config.json", config.dump());
    export_lm_classifier(load_lm_classifier(folder, at::kCPU), out, folder);
    EXPECT_EQ(config_of(out).contains("pad_token_id"), kept);
    EXPECT_FALSE(config_of(out).contains("vbon"));  // no bias, no key
  }
}

class LmRefusals : public testing::Test {
 protected:
  // A copy of a golden folder with another config.
  fs::path with_config(const std::string& name, const std::function<void(json&)>& change) {
    const fs::path folder = scratch_ / std::to_string(++count_);
    fs::copy(golden(name), folder);
    json config = config_of(folder);
    change(config);
    write_file_atomically(folder / "config.json", config.dump());
    return folder;
  }
  static std::string said_of(const fs::path& folder, bool append_eos = false) {
    return refusal([&] { make_reward({.path = folder, .append_eos = append_eos}, at::kCPU); });
  }
  test::Scratch scratch_;
  int count_ = 0;
};

TEST_F(LmRefusals, name_what_is_wrong) {
  EXPECT_EQ(said_of(golden("lm_gpt2")), "accepted");
  // A head of another shape.
  EXPECT_THAT(said_of(with_config("lm_llama", [](json& c) { c["id2label"].erase("2"); })),
              AllOf(HasSubstr("'score.weight' has shape [3, 16]"), HasSubstr("[2, 16]")));
  // No head at all.
  EXPECT_THAT(said_of(with_config("lm_gpt2", [](json& c) { c["architectures"] = {"GPT2LMHeadModel"}; })),
              AllOf(HasSubstr("language model without a classification head"), HasSubstr("vbon reward")));
  EXPECT_THAT(said_of(with_config("lm_gpt2", [](json& c) { c["model_type"] = "mamba"; })),
              AllOf(HasSubstr("mamba"), HasSubstr("gpt_neox")));
  EXPECT_THAT(said_of(with_config("lm_scalar", [](json& c) { c.erase("base_config"); })), HasSubstr("base_config"));
  EXPECT_THAT(said_of(with_config("lm_scalar", [](json& c) { c["base_config"].erase("vocab_size"); })),
              AllOf(HasSubstr("'base_config' has no 'vocab_size'")));
  EXPECT_THAT(said_of(with_config("lm_scalar", [](json& c) { c["bias"] = "much"; })), HasSubstr("'bias'"));
  EXPECT_THAT(said_of(with_config("lm_gpt2", [](json& c) { c["vocab_size"] = 1000; })), HasSubstr("has shape"));
  // End tokens.
  EXPECT_EQ(said_of(golden("lm_gpt2"), true), "accepted");
  EXPECT_THAT(said_of(with_config("lm_gpt2", [](json& c) { c.erase("eos_token_id"); }), true),
              HasSubstr("eos_token_id"));
  EXPECT_THAT(said_of(golden("classifier"), true), HasSubstr("append_eos"));
  const auto rows_of = [](const std::string& name, std::int64_t max_length, bool append_eos) {
    return refusal([&] {
      TextRows(Tokenizer::load(golden(name)), facts_of(read_classifier_spec(golden(name))), max_length, append_eos);
    });
  };
  EXPECT_EQ(rows_of("lm_llama", 3, true), "accepted");  // <s>, text, </s>
  EXPECT_THAT(rows_of("lm_llama", 2, true), HasSubstr("special tokens alone are 2"));
  EXPECT_THAT(rows_of("classifier", 2, false), HasSubstr("special tokens alone are 2"));
  EXPECT_EQ(rows_of("lm_gpt2", 1, false), "accepted");
  EXPECT_THAT(problems({.kind = RewardKind::ngram, .path = "x", .append_eos = true}, "reward"),
              testing::Contains(HasSubstr("reward.append_eos")));
}

TEST_F(LmRefusals, a_scalar_model_lacks_no_part_of_its_head) {
  const fs::path folder = with_config("lm_scalar", [](json&) {});
  const SafeTensors file = SafeTensors::open_folder(golden("lm_scalar"));
  NamedTensors tensors;
  for (const TensorView& view : file.tensors())
    if (view.name != "scalar_head.bias") tensors.emplace_back(view.name, to_tensor(view, at::kFloat));
  write_tensors(folder / "model.safetensors", tensors);
  EXPECT_THAT(said_of(folder), HasSubstr("scalar_head.bias"));
}

TEST(RewardSha256, knows_the_end_token) {
  RewardConfig c{.path = golden("lm_gpt2")};
  const std::string without = reward_sha256(c);
  c.append_eos = true;
  EXPECT_NE(reward_sha256(c), without);
}

}  // namespace
}  // namespace vbon
