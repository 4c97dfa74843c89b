// Rewards of pairs: against transformers (tests/golden/reward/make_classifier.py), bit for bit whatever a row is scored
// together with, remembered, rounded, finite.
#include "vbon/reward/scorer.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include "unit/reward/scratch.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/rng.hpp"
#include "vbon/model/encoder_weights.hpp"
#include "vbon/reward/classifier.hpp"
#include "vbon/reward/ngram.hpp"

namespace vbon {
namespace {

using testing::AllOf;
using testing::HasSubstr;

fs::path golden() { return fs::path(VBON_TEST_DATA) / "golden/reward/classifier"; }
fs::path tokenizer_folder() { return fs::path(VBON_TEST_DATA) / "golden/text/bert_uncased"; }

nlohmann::json expected() {
  std::ifstream file(golden() / "expected.json");
  return nlohmann::json::parse(file);
}

struct Pair {
  std::string prompt, response;
};

std::vector<PromptResponse> views(const std::vector<Pair>& pairs) {
  std::vector<PromptResponse> list;
  for (const Pair& pair : pairs) list.push_back({pair.prompt, pair.response});
  return list;
}

TEST(Classifier, rewards_are_those_of_transformers) {
  const nlohmann::json want = expected();
  std::vector<Pair> pairs;
  for (const auto& row : want.at("rows")) pairs.push_back({row.at("prompt"), row.at("response")});
  for (const RewardOutput output : {RewardOutput::log_prob, RewardOutput::prob, RewardOutput::logit})
    for (const char* label : {"negative", "POSITIVE", "", "0", "1"}) {
      const std::string name(label);
      const std::size_t index = name == "negative" || name == "0" ? 0 : 1;
      RewardModel reward = make_reward({.path = golden(),
                                        .output = output,
                                        .label = name,
                                        .round = 0,
                                        .batch = 3,
                                        .max_length = want.at("max_length")},
                                       at::kCPU);
      const std::vector<float> got = reward.score(views(pairs));
      for (std::size_t i = 0; i < got.size(); ++i)
        EXPECT_NEAR(got[i], want.at("rows")[i].at(std::string(enum_name(output)))[index],
                    5e-6)  // float32 logits of size 3
            << i << " " << enum_name(output) << " " << label;
    }
}

TEST(Classifier, tokens_are_the_end_of_a_long_text) {
  const nlohmann::json want = expected();
  const TextRows text(Tokenizer::load(golden()), read_encoder_spec(golden()), want.at("max_length"));
  for (const auto& row : want.at("rows"))
    EXPECT_EQ(nlohmann::json(text.encode(row.at("prompt").get<std::string>() + row.at("response").get<std::string>())),
              row.at("ids"));
}

TEST(Classifier, tokenizer_may_be_a_vocab_txt) {
  const nlohmann::json want = expected();
  const test::Scratch folder;
  fs::create_directories(folder / "c");
  for (const char* name : {"config.json", "model.safetensors"}) fs::copy_file(golden() / name, folder / "c" / name);
  // The vocabulary of the golden's tokenizer.json.
  fs::copy_file(tokenizer_folder().parent_path() / "distilbert_files/vocab.txt", folder / "c" / "vocab.txt");
  std::vector<Pair> pairs;
  for (const auto& row : want.at("rows")) pairs.push_back({row.at("prompt"), row.at("response")});
  RewardConfig config{.path = golden(), .round = 0, .max_length = want.at("max_length")};
  const std::vector<float> scores = make_reward(config, at::kCPU).score(views(pairs));
  config.path = folder / "c";
  EXPECT_EQ(make_reward(config, at::kCPU).score(views(pairs)), scores);

  std::vector<std::string> hashes = {reward_sha256(config)};
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}) {
    write_file_atomically(folder / "c" / name, "{}");
    EXPECT_THAT(hashes, testing::Not(testing::Contains(reward_sha256(config)))) << name;
    hashes.push_back(reward_sha256(config));
  }
  write_file_atomically(folder / "c" / "vocab.txt", read_file(folder / "c" / "vocab.txt") + "more\n");
  EXPECT_THAT(hashes, testing::Not(testing::Contains(reward_sha256(config))));
}

TEST(Classifier, pads_a_row_by_its_own_length_alone) {
  const TextRows text(Tokenizer::load(golden()), read_encoder_spec(golden()), 34);
  EXPECT_EQ(text.padded_length(1), 4);
  EXPECT_EQ(text.padded_length(16), 16);
  EXPECT_EQ(text.padded_length(17), 20);
  EXPECT_EQ(text.padded_length(33), 34);  // no further than the limit
}

// A classifier of the width of real ones, so that products are cut into blocks as theirs are; N(0, .05) weights.
Encoder wide_classifier() {
  Encoder encoder;
  encoder.spec = parse_encoder_spec(
      R"({"model_type":"bert","vocab_size":1100,"hidden_size":384,"num_hidden_layers":1,"num_attention_heads":12,
          "intermediate_size":1536,"max_position_embeddings":128,"architectures":["BertForSequenceClassification"]})",
      "config.json");
  encoder.blocks.resize(1);
  const RandomStream stream(11, Purpose::initialise);
  std::int32_t index = 0;
  for (const EncoderEntry& entry : weight_table(encoder.spec)) {
    at::Tensor& target = entry.target(encoder);
    if (!target.defined()) {
      std::vector<std::int64_t> shape = entry.shape;
      if (entry.name.find("self.query") != std::string::npos) shape[0] *= 3;
      target = at::empty(shape, at::kFloat);
      float* const values = target.mutable_data_ptr<float>();
      const double mean = entry.name.ends_with("LayerNorm.weight") ? 1.0 : 0.0;
      for (std::int64_t i = 0; i < target.numel(); ++i)
        values[i] = static_cast<float>(mean + 0.05 * stream.normal(i, index));
    }
    ++index;
  }
  return encoder;
}

std::vector<Pair> many_pairs(std::size_t count) {
  const std::vector<std::string> words = {"the",  "film", "is",    "dull", "great", "fun",
                                          "plot", "and",  "never", "ends", "!"};
  std::mt19937 engine(3);
  std::vector<Pair> pairs;
  for (std::size_t i = 0; i < count; ++i) {
    Pair pair{.prompt = "Film " + std::to_string(i), .response = ""};
    for (std::size_t k = engine() % 30; k > 0; --k) pair.response += " " + words[engine() % words.size()];
    pairs.push_back(pair);
  }
  return pairs;
}

class OneScore : public testing::TestWithParam<int> {};

TEST_P(OneScore, comes_to_the_bit_whatever_a_row_is_scored_together_with) {
  const int threads = at::get_num_threads();
  at::set_num_threads(GetParam());
  const Encoder encoder = wide_classifier();
  const TextRows text(Tokenizer::load(tokenizer_folder()), encoder.spec, 128);
  std::vector<TokenRow> rows;
  for (const Pair& pair : many_pairs(40)) rows.push_back(text.encode(pair.prompt + pair.response));
  const at::Tensor whole = classifier_logits(encoder, rows, text, 16);
  ASSERT_GT((whole.amax(0) - whole.amin(0)).min().item<double>(), 0.1) << "scores that differ between texts";
  const auto same = [&](std::span<const std::size_t> places) {
    std::vector<TokenRow> some;
    for (const std::size_t place : places) some.push_back(rows[place]);
    const at::Tensor logits = classifier_logits(encoder, some, text, 16);
    for (std::size_t i = 0; i < places.size(); ++i)
      EXPECT_TRUE(logits[static_cast<std::int64_t>(i)].equal(whole[static_cast<std::int64_t>(places[i])])) << places[i];
  };
  std::vector<std::size_t> order(rows.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::mt19937 engine(5);
  for (int round = 0; round < 2; ++round) {  // other neighbours, other places in the batch
    std::shuffle(order.begin(), order.end(), engine);
    same(order);
    same(std::span(order).first(9));
    same(std::span(order).first(1));
  }
  at::set_num_threads(threads);
}

INSTANTIATE_TEST_SUITE_P(Threads, OneScore, testing::Values(1, 2));

// Gives the number of times that it was asked.
struct Counting {
  int calls = 0;
  std::size_t pairs = 0;
  RawScorer scorer() {
    return [this](std::span<const PromptResponse> asked) {
      ++calls;
      std::vector<double> values;
      for (std::size_t i = 0; i < asked.size(); ++i) values.push_back(static_cast<double>(++pairs));
      return values;
    };
  }
};

TEST(RewardModel, scores_each_pair_once) {
  Counting counting;
  RewardModel reward("'r'", 1e-5, counting.scorer());
  const std::vector<PromptResponse> pairs = {{"a", "b"}, {"a", "c"}, {"a", "b"}, {"ab", ""}, {"", "ab"}};
  // "a" + "b", "ab" + "" and "" + "ab" are one text, and three pairs.
  EXPECT_EQ(reward.score(pairs), (std::vector<float>{1, 2, 1, 3, 4}));
  EXPECT_EQ(reward.score(std::span(pairs).subspan(2)), (std::vector<float>{1, 3, 4}));
  EXPECT_EQ(reward.score({}), std::vector<float>{});
  EXPECT_EQ(counting.calls, 1);
}

TEST(RewardModel, rounds_to_multiples) {
  const auto rounded = [](double value, double round) {
    RewardModel reward("'r'", round, [=](auto pairs) { return std::vector<double>(pairs.size(), value); });
    const PromptResponse pair{"p", "r"};
    return reward.score(std::span(&pair, 1)).front();
  };
  EXPECT_EQ(rounded(-0.1234567, 1e-5), rounded(-0.1234561, 1e-5));
  EXPECT_FLOAT_EQ(rounded(-0.1234567, 1e-5), -0.12346f);
  EXPECT_EQ(rounded(1.26, 0.5), 1.5f);
  EXPECT_EQ(rounded(-0.1234567, 0), -0.1234567f);
  EXPECT_FALSE(std::signbit(rounded(-1e-9, 1e-5)));
}

TEST(RewardModel, refuses_scores_that_are_not_finite_and_names_the_pair) {
  for (const double bad :
       {std::nan(""), std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(), 1e300}) {
    RewardModel reward("'the reward'", 1e-5, [=](auto pairs) {
      std::vector<double> values(pairs.size(), 0.5);
      values.back() = bad;
      return values;
    });
    const std::vector<PromptResponse> pairs = {{"fine", "this"}, {"the prompt\xff", "the \"response\""}};
    EXPECT_THAT(test::refusal([&] { reward.score(pairs); }),
                AllOf(HasSubstr("'the reward'"), HasSubstr("the prompt"), HasSubstr("the \\\"response\\\""),
                      HasSubstr("finite")));
    EXPECT_EQ(reward.score(std::span(pairs).first(1)).size(), 1u);
  }
}

TEST(RewardOfLogits, follows_the_number_of_labels) {
  using enum RewardOutput;
  const std::vector<float> three = {1.0f, -2.0f, 0.5f}, two = {-1.0f, 2.0f}, one = {3.0f}, large = {-200.0f, 200.0f};
  const double sum = std::exp(1.0) + std::exp(-2.0) + std::exp(0.5);
  EXPECT_NEAR(reward_of_logits(three, 2, false, prob), std::exp(0.5) / sum, 1e-15);
  EXPECT_NEAR(reward_of_logits(three, 2, false, log_prob), 0.5 - std::log(sum), 1e-15);
  EXPECT_EQ(reward_of_logits(three, 1, false, logit), -2.0);
  EXPECT_EQ(reward_of_logits(two, 1, false, logit), 3.0);
  EXPECT_EQ(reward_of_logits(two, 0, false, logit), -3.0);
  EXPECT_NEAR(reward_of_logits(two, 1, true, prob), 1 / (1 + std::exp(-2.0)), 1e-15);
  EXPECT_EQ(reward_of_logits(two, 1, true, logit), 2.0);
  EXPECT_EQ(reward_of_logits(one, 0, false, logit), 3.0);
  EXPECT_NEAR(reward_of_logits(one, 0, false, log_prob), -std::log1p(std::exp(-3.0)), 1e-15);
  EXPECT_EQ(reward_of_logits(large, 0, false, log_prob), -400.0);  // and no -infinity
}

TEST(NgramReward, scores_prompt_and_response_together) {
  const test::Scratch folder;
  const std::vector<LabelRecord> texts = {{"great film", 1.0, 1.0}, {"dull film", 0.0, 1.0}};
  const NgramModel model = fit_ngram(texts, {});
  save_ngram(model, folder / "m");
  RewardConfig config{.kind = RewardKind::ngram, .path = folder / "m", .output = RewardOutput::logit, .round = 0};
  const std::vector<PromptResponse> pairs = {{"a great", " film"}, {"a dull", " film"}, {"a great film", ""}};
  const std::vector<float> logits = make_reward(config, at::kCPU).score(pairs);
  EXPECT_EQ(logits[0], static_cast<float>(log_odds(model, "a great film")));
  EXPECT_EQ(logits[0], logits[2]);
  EXPECT_GT(logits[0], logits[1]);
  config.output = RewardOutput::prob;
  EXPECT_NEAR(make_reward(config, at::kCPU).score(pairs)[0], 1 / (1 + std::exp(-log_odds(model, "a great film"))),
              1e-7);
  config.label = "0";
  config.output = RewardOutput::logit;
  EXPECT_EQ(make_reward(config, at::kCPU).score(pairs)[0], -logits[0]);
  config.label = "great";
  EXPECT_THAT(test::refusal([&] { make_reward(config, at::kCPU); }), HasSubstr("great"));
}

TEST(ExecReward, scores_by_a_program_and_in_batches) {
  RewardConfig config{.kind = RewardKind::exec,
                      .batch = 2,
                      .command = {"python3", "-c",
                                  "import json,sys\nfor l in sys.stdin:\n r=json.loads(l)\n"
                                  " print(json.dumps({'reward':len(r['prompt'])+len(r['response'])/10}),flush=True)"},
                      .id = "lengths"};
  const std::vector<PromptResponse> pairs = {{"ab", "c"}, {"", ""}, {"a", "bcd"}, {"ab", "c"}, {"x", "yz"}};
  EXPECT_EQ(make_reward(config, at::kCPU).score(pairs), (std::vector<float>{2.1f, 0.0f, 1.3f, 2.1f, 1.2f}));
}

TEST(RewardSha256, changes_with_what_decides_the_scores_alone) {
  const test::Scratch folder;
  fs::copy(golden(), folder / "c");
  const RewardConfig config{.path = folder / "c"};
  const std::string hash = reward_sha256(config);
  EXPECT_EQ(hash.size(), 64u);
  EXPECT_EQ(hash, reward_sha256({.path = golden(), .batch = 7}));  // the content counts, not the place
  EXPECT_NE(hash, reward_sha256({.path = folder / "c", .max_length = 100}));
  EXPECT_NE(hash, reward_sha256({.path = folder / "c", .label = "NEGATIVE"}));
  std::string tokenizer = read_file(folder / "c" / "tokenizer.json");
  write_file_atomically(folder / "c" / "tokenizer.json", tokenizer + " ");
  EXPECT_NE(hash, reward_sha256(config));
  const RewardConfig exec{.kind = RewardKind::exec, .command = {"a", "b c"}, .id = "1"};
  RewardConfig other = exec;
  other.command = {"a", "b", "c"};
  EXPECT_NE(reward_sha256(exec), reward_sha256(other));
  other = exec;
  other.id = "2";
  EXPECT_NE(reward_sha256(exec), reward_sha256(other));
}

TEST(Reward, folders_that_do_not_fit_are_refused) {
  const auto refusal = [](const RewardConfig& config) { return test::refusal([&] { make_reward(config, at::kCPU); }); };
  EXPECT_THAT(refusal({.path = golden(), .label = "happy"}), AllOf(HasSubstr("happy"), HasSubstr("POSITIVE")));
  EXPECT_THAT(refusal({.path = golden(), .label = "2"}), HasSubstr("0 … 1"));
  EXPECT_THAT(refusal({.path = "/nowhere"}), HasSubstr("/nowhere"));
  EXPECT_THAT(refusal({.kind = RewardKind::ngram, .path = golden()}), HasSubstr("classifier"));
  const test::Scratch folder;
  const fs::path bare = fs::path(VBON_TEST_DATA) / "golden/model/bert_sentence";
  EXPECT_THAT(refusal({.path = bare}), HasSubstr("vbon reward"));
  fs::create_directories(folder / "small");
  for (const char* name : {"config.json", "model.safetensors"})
    fs::copy_file(fs::path(VBON_TEST_DATA) / "golden/model/bert_classifier" / name, folder / "small" / name);
  EXPECT_THAT(refusal({.path = folder / "small"}), HasSubstr("tokenizer.json"));
  fs::copy_file(tokenizer_folder() / "tokenizer.json", folder / "small" / "tokenizer.json");
  EXPECT_THAT(refusal({.path = folder / "small"}), AllOf(HasSubstr("1100"), HasSubstr("61")));
}

TEST(RewardConfig, problems_name_their_keys) {
  EXPECT_TRUE(problems(RewardConfig{.path = "m"}, "reward").empty());
  const auto all = problems(RewardConfig{.round = -1, .batch = 0, .max_length = 1}, "evaluator");
  EXPECT_THAT(all, testing::UnorderedElementsAre(HasSubstr("evaluator.path"), HasSubstr("evaluator.round"),
                                                 HasSubstr("evaluator.batch"), HasSubstr("evaluator.max_length")));
  EXPECT_THAT(problems(RewardConfig{.kind = RewardKind::exec}, "reward"),
              testing::UnorderedElementsAre(HasSubstr("reward.command"), HasSubstr("reward.id")));
  EXPECT_THAT(problems(RewardConfig{.path = "m", .command = {"x"}}, "reward"),
              testing::ElementsAre(HasSubstr("kind: exec")));
  EXPECT_THAT(
      training_problems(RewardConfig{}, "reward"),
      testing::UnorderedElementsAre(HasSubstr("reward.path"), HasSubstr("train.labels"), HasSubstr("train.base")));
}

TEST(RewardLayers, are_read_as_written) {
  for (const char* text : {"head", "last 3", "all"}) EXPECT_EQ(RewardLayers::parse(text).text(), text);
  for (const char* text : {"", "last", "last 0", "last -1", "last x", "3", "last 2 3"})
    EXPECT_THAT(test::refusal([&] { RewardLayers::parse(text); }), HasSubstr("layers")) << text;
}

}  // namespace
}  // namespace vbon
