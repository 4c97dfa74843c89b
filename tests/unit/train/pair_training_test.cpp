// Reward models from pairs, on one rank and on several: against TRL's loss, torch and transformers
// (tests/golden/reward/make_pairs.py); centred, repeated, refused. And labelled texts on a language model.
#include <ATen/core/Tensor.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "support/json_files.hpp"
#include "unit/train/shared_folder.hpp"
#include "vbon/model/encoder_weights.hpp"
#include "vbon/model/text_classifier.hpp"
#include "vbon/reward/scorer.hpp"
#include "vbon/store/safetensors.hpp"
#include "vbon/train/reward_training.hpp"

namespace vbon {
namespace {

using nlohmann::json;
using test::lines_of;
using testing::AllOf;
using testing::HasSubstr;

fs::path folder_of(const std::string& name) { return test::golden_path("reward/" + name); }

class PairTraining : public test::SharedFolder {
 protected:
  void SetUp() override {
    SharedFolder::SetUp();
    written("pairs.jsonl", lines_of(golden_.at("pairs")));
    json equal = golden_.at("pairs");
    for (json& pair : equal) pair.erase("weight");
    equal[1].erase("prompt");  // it is empty
    written("equal.jsonl", lines_of(equal));
    written("heldout.jsonl", lines_of(golden_.at("heldout")));
    written("labels.jsonl", "{\"text\":\"a delight\",\"label\":1}\n{\"text\":\"so dull\",\"label\":0}\n");
  }
  RewardConfig config(const std::string& base = "lm_gpt2", const std::string& layers = "last 1") const {
    RewardConfig c{.path = folder_ / "model", .output = RewardOutput::logit, .round = 0, .batch = 4};
    c.train = {.labels = folder_ / "pairs.jsonl",
               .heldout = folder_ / "heldout.jsonl",
               .base = folder_of(base),
               .layers = RewardLayers::parse(layers),
               .epochs = golden_.at("updates"),
               .batch = 64,
               .learning_rate = golden_.at("learning_rate"),
               .weight_decay = golden_.at("weight_decay"),
               .warmup = golden_.at("warmup"),
               .clip_norm = golden_.at("clip_norm"),
               .center = 0.05};
    return c;
  }
  RewardTrainingResult train(const RewardConfig& c,
                             std::function<void(const RewardTrainingProgress&)> observer = {}) const {
    return train_reward(c, *group_, {.seed = 7, .resolved_config = "a: 1\n", .observer = std::move(observer)});
  }
  std::string refusal(const RewardConfig& c) const {
    try {
      train(c);
    } catch (const UserError& e) {
      return comm::from_root(*group_, e.what(), 0, "refusal");
    }
    return comm::from_root(*group_, "accepted", 0, "refusal");
  }
  // Rewards of each pair's chosen and rejected text in turn.
  static std::vector<double> rewards_of(const RewardConfig& c, const json& pairs) {
    RewardModel reward = make_reward(c, at::kCPU);
    std::vector<double> rewards;
    for (const json& pair : pairs)
      for (const char* key : {"chosen", "rejected"}) {
        const std::string prompt = pair.at("prompt"), response = pair.at(key);
        const PromptResponse text{prompt, response};
        rewards.push_back(reward.score(std::span(&text, 1)).front());
      }
    return rewards;
  }
  // The golden folder, with the last row of its head alone where it has more.
  fs::path base_of_one_output(const std::string& name) const {
    const fs::path folder = folder_ / ("base " + name);
    if (is_root() && !fs::exists(folder)) {
      TextClassifier model = load_text_classifier(folder_of(name), at::kCPU);
      if (auto* const encoder = std::get_if<Encoder>(&model)) {
        Linear& head = encoder->classifier;
        head = {head.weight.narrow(0, head.weight.size(0) - 1, 1), head.bias.narrow(0, head.bias.size(0) - 1, 1)};
        encoder->spec.label_names = {"LABEL_0"};
      } else {
        auto& lm = std::get<LmClassifier>(model);
        lm.score = lm.score.narrow(0, lm.score.size(0) - 1, 1);
        lm.spec.label_names = {"LABEL_0"};
      }
      export_classifier(model, folder, folder_of(name));
    }
    group_->barrier("base");
    return folder;
  }

  json golden_ = test::golden_json("reward/pairs.json");
};

TEST_F(PairTraining, follows_torch_and_trl_and_centres_the_rewards) {
  ASSERT_EQ(golden_.at("cases").size(), 6u);
  int number = 0;
  for (const json& want : golden_.at("cases")) {
    const std::string name = want.at("base"), layers = want.at("layers"), what = name + " " + layers;
    RewardConfig c = config(name, layers);
    c.path = folder_ / ("model " + std::to_string(++number));
    c.train.base = base_of_one_output(name);
    if (!want.at("weighted").get<bool>()) c.train.labels = folder_ / "equal.jsonl";
    c.train.center = want.at("center");
    c.append_eos = want.at("append_eos");
    std::vector<double> losses;
    const RewardTrainingResult result = train(c, [&](const RewardTrainingProgress& p) { losses.push_back(p.loss); });
    if (is_root()) {
      ASSERT_EQ(losses.size(), want.at("losses").size());
      // AdamW's first updates divide rounding by rounding where gradients are tiny: errors of 1e-6 grow by update.
      for (std::size_t i = 0; i < losses.size(); ++i)
        EXPECT_NEAR(losses[i], want.at("losses")[i], 5e-5) << what << " " << i;
    }
    EXPECT_NEAR(result.centered_by, want.at("mean_reward"), 3e-4) << what;
    const std::vector<double> heldout = rewards_of(c, golden_.at("heldout"));
    for (std::size_t i = 0; i < heldout.size(); ++i)
      EXPECT_NEAR(heldout[i], want.at("heldout")[i / 2][i % 2], 1e-3) << what << " " << i;
    const std::vector<double> trained = rewards_of(c, golden_.at("pairs"));
    double sum = 0, weights = 0;
    for (std::size_t i = 0; i < trained.size(); ++i) {
      const double weight = want.at("weighted").get<bool>() ? golden_.at("pairs")[i / 2].at("weight").get<double>() : 1;
      sum += weight * trained[i];
      weights += weight;
    }
    EXPECT_NEAR(sum / weights, 0, 2e-6) << what;  // float32 rewards
    const LabelMetrics metrics = pair_metrics(read_pairs(c.train.heldout), heldout);
    EXPECT_EQ(result.heldout.texts, 3);
    EXPECT_TRUE(result.heldout.of_pairs);
    EXPECT_NEAR(result.heldout.loss, metrics.loss, 1e-6) << what;
    EXPECT_EQ(result.heldout.accuracy, metrics.accuracy) << what;
    if (is_root()) {
      const json record = json::parse(read_file(fs::path(c.path) / "training.json"));
      EXPECT_EQ(record.at("heldout").at("pairs"), 3);
      EXPECT_NEAR(record.at("centered_by"), result.centered_by, 1e-12);
    }
  }
}

TEST_F(PairTraining, gives_the_same_bits_again_and_small_batches_the_same_update) {
  RewardConfig one = config("lm_llama", "all"), two = one, small = one;
  one.path = folder_ / "one";
  two.path = folder_ / "two";
  small.path = folder_ / "small";
  small.train.micro_batch = 1;
  one.train.batch = two.train.batch = small.train.batch = 3;
  for (const RewardConfig* c : {&one, &two, &small}) EXPECT_EQ(train(*c).updates, 12);
  EXPECT_EQ(folder_sha256(one.path), folder_sha256(two.path));
  const std::vector<double> a = rewards_of(one, golden_.at("heldout")), b = rewards_of(small, golden_.at("heldout"));
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 3e-3) << i;
}

TEST_F(PairTraining, leaves_what_is_frozen_as_it_was) {
  const RewardConfig c = config("lm_gpt2", "head");
  train(c);
  const SafeTensors before = SafeTensors::open_folder(c.train.base), after = SafeTensors::open_folder(c.path);
  for (const TensorView& view : before.tensors()) {
    const TensorView& now = after.at(view.name);
    EXPECT_EQ(std::equal(view.bytes.begin(), view.bytes.end(), now.bytes.begin(), now.bytes.end()),
              view.name != "score.weight")
        << view.name;
  }
  EXPECT_EQ(before.tensors().size(), after.tensors().size());
}

TEST_F(PairTraining, gives_a_language_model_a_head) {
  const fs::path bare = folder_ / "bare";
  if (is_root()) {
    fs::copy(folder_of("lm_scalar"), bare);  // any body; the head's tensors are not looked at
    json config = json::parse(read_file(bare / "config.json")).at("base_config");
    write_file_atomically(bare / "config.json", config.dump());
  }
  group_->barrier("bare");
  RewardConfig c = config("lm_scalar", "all");
  c.train.base = bare;
  c.train.epochs = 30;
  c.append_eos = true;
  const RewardTrainingResult result = train(c);
  const auto spec = std::get<LmClassifierSpec>(read_classifier_spec(c.path));
  EXPECT_EQ(spec.num_labels(), 1);
  EXPECT_NEAR(spec.bias, result.centered_by, 1e-12);
  const std::vector<double> rewards = rewards_of(c, golden_.at("pairs"));
  for (std::size_t i = 0; i < rewards.size(); i += 2) EXPECT_GT(rewards[i], rewards[i + 1] + 1) << i;
  EXPECT_TRUE(train(c).skipped);
  c.train.center = 0.02;
  EXPECT_THAT(refusal(c), HasSubstr("seed or configuration"));
}

TEST_F(PairTraining, gives_an_encoder_a_head) {
  RewardConfig c = config("classifier", "all");
  c.train.epochs = 30;
  EXPECT_GT(train(c).updates, 0);
  const std::vector<double> rewards = rewards_of(c, golden_.at("pairs"));
  for (std::size_t i = 0; i < rewards.size(); i += 2) EXPECT_GT(rewards[i], rewards[i + 1] + 1) << i;
}

TEST_F(PairTraining, language_models_learn_labels_and_scores_too) {
  RewardConfig c = config("lm_neox", "all");
  c.train.labels = c.train.heldout = folder_ / "labels.jsonl";
  c.train.epochs = 30;
  const RewardTrainingResult labels = train(c);
  EXPECT_EQ(labels.heldout.accuracy, 1);
  EXPECT_FALSE(labels.heldout.of_pairs);
  EXPECT_EQ(labels.centered_by, 0);
  c.path = folder_ / "scored";
  c.train.labels = c.train.heldout =
      written("scores.jsonl", "{\"text\":\"a delight\",\"score\":103}\n{\"text\":\"so dull\",\"score\":101}\n");
  const RewardTrainingResult scores = train(c);
  EXPECT_LT(scores.heldout.loss, 0.5);  // their mean, 102, is not to be learned by the weights
  EXPECT_GT(scores.heldout.correlation, 0.99);
}

TEST_F(PairTraining, refuses_what_does_not_belong_together) {
  RewardConfig c = config();
  c.train.heldout = folder_ / "labels.jsonl";
  EXPECT_THAT(refusal(c), AllOf(HasSubstr("one has labels"), HasSubstr("the other pairs")));
  c = config();
  c.train.labels = written("mixed.jsonl", "{\"chosen\":\"a\",\"rejected\":\"b\"}\n{\"text\":\"a\",\"label\":1}\n");
  EXPECT_THAT(refusal(c), AllOf(HasSubstr("mixed.jsonl:2"), HasSubstr("labelled text among pairs")));
  c.train.labels = written("mixed2.jsonl", "{\"text\":\"a\",\"label\":1}\n{\"chosen\":\"a\",\"rejected\":\"b\"}\n");
  EXPECT_THAT(refusal(c), AllOf(HasSubstr("mixed2.jsonl:2"), HasSubstr("pair among labelled texts")));
  c.train.labels = written("half.jsonl", "{\"chosen\":\"a\"}\n");
  EXPECT_THAT(refusal(c), AllOf(HasSubstr("half.jsonl:1"), HasSubstr("'rejected' is missing")));
  c = config();
  c.kind = RewardKind::ngram;
  EXPECT_THAT(refusal(c), AllOf(HasSubstr("has pairs"), HasSubstr("n-gram")));
  c = config();
  c.train.base = folder_of("lm_gpt2") / "nowhere";
  EXPECT_THAT(refusal(c), HasSubstr("nowhere"));
  EXPECT_FALSE(fs::exists(folder_ / "model"));
}

TEST(PairMetrics, are_those_of_numpy_and_scipy) {
  const json all = test::golden_json("reward/pairs.json");
  for (const json& want : all.at("metrics")) {
    std::vector<PairRecord> pairs;
    for (const json& weight : want.at("weights")) pairs.push_back({"", "c", "r", weight});
    const LabelMetrics got = pair_metrics(pairs, want.at("rewards").get<std::vector<double>>());
    EXPECT_EQ(got.texts, 50);
    EXPECT_NEAR(got.loss, want.at("loss"), 1e-12);
    EXPECT_NEAR(got.accuracy, want.at("accuracy"), 1e-12);
    EXPECT_NEAR(got.auc, want.at("auc"), 1e-12);
    EXPECT_NEAR(got.calibration, want.at("calibration"), 1e-12);
  }
}

}  // namespace
}  // namespace vbon
