// Training of reward models, on one rank and on several: against torch and transformers
// (tests/golden/reward/make_training.py), repeated, skipped, refused, stopped.
#include "vbon/train/reward_training.hpp"

#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "support/json_files.hpp"
#include "unit/train/shared_folder.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/stop.hpp"
#include "vbon/comm/agree.hpp"
#include "vbon/model/encoder_weights.hpp"
#include "vbon/reward/classifier.hpp"
#include "vbon/reward/ngram.hpp"
#include "vbon/store/safetensors.hpp"

namespace vbon {
namespace {

using nlohmann::json;
using test::lines_of;
using testing::AllOf;
using testing::HasSubstr;

fs::path base() { return test::golden_path("reward/classifier"); }

class RewardTraining : public test::SharedFolder {
 protected:
  void SetUp() override {
    SharedFolder::SetUp();
    written("labels.jsonl", lines_of(golden_.at("texts")));
    written("heldout.jsonl", lines_of(golden_.at("heldout")));
  }
  void TearDown() override {
    stop::clear();
    SharedFolder::TearDown();
  }

  RewardConfig config(const std::string& layers = "last 1") const {
    RewardConfig c{.path = folder_ / "model", .batch = 4};
    c.train = {.labels = folder_ / "labels.jsonl",
               .heldout = folder_ / "heldout.jsonl",
               .base = base(),
               .layers = RewardLayers::parse(layers),
               .epochs = golden_.at("updates"),
               .batch = 64,
               .learning_rate = golden_.at("learning_rate"),
               .weight_decay = golden_.at("weight_decay"),
               .warmup = golden_.at("warmup"),
               .clip_norm = golden_.at("clip_norm")};
    return c;
  }
  RewardTrainingResult train(const RewardConfig& c,
                             std::function<void(const RewardTrainingProgress&)> observer = {}) const {
    return train_reward(c, *group_, {.seed = 7, .resolved_config = "a: 1\n", .observer = std::move(observer)});
  }
  // What the call says when it refuses: on every rank one of that kind.
  std::string refusal(const RewardConfig& c) const {
    try {
      train(c);
    } catch (const UserError& e) {
      return comm::from_root(*group_, e.what(), 0, "refusal");
    }
    return comm::from_root(*group_, "accepted", 0, "refusal");
  }
  // Log odds that the written model gives to the held-out texts.
  std::vector<double> log_odds_of(const fs::path& model) const {
    const Encoder encoder = load_encoder(model, at::kCPU);
    const TextRows text(Tokenizer::load(model), encoder.spec, 256);
    std::vector<TokenRow> rows;
    for (const json& record : golden_.at("heldout")) rows.push_back(text.encode(record.at("text").get<std::string>()));
    const at::Tensor z = classifier_logits(encoder, rows, text, 4);
    std::vector<double> odds;
    for (std::int64_t i = 0; i < z.size(0); ++i) odds.push_back(z[i][1].item<double>() - z[i][0].item<double>());
    return odds;
  }

  json golden_ = test::golden_json("reward/training.json");
};

TEST_F(RewardTraining, follows_torch_with_every_choice_of_layers) {
  ASSERT_EQ(golden_.at("cases").size(), 3u);
  for (const json& want : golden_.at("cases")) {
    const std::string layers = want.at("layers");
    RewardConfig c = config(layers);
    c.path = folder_ / ("model " + layers);
    std::vector<double> losses;
    const RewardTrainingResult result = train(c, [&](const RewardTrainingProgress& p) { losses.push_back(p.loss); });
    EXPECT_EQ(result.updates, golden_.at("updates"));
    if (is_root()) {
      ASSERT_EQ(losses.size(), want.at("losses").size());
      // AdamW's first updates divide rounding by rounding where gradients are tiny: errors of 1e-6 grow by update.
      for (std::size_t i = 0; i < losses.size(); ++i)
        EXPECT_NEAR(losses[i], want.at("losses")[i], 2e-5) << layers << " " << i;
    }
    EXPECT_NEAR(result.heldout.loss, want.at("heldout_loss"), 2e-4) << layers;
    const std::vector<double> odds = log_odds_of(c.path);
    for (std::size_t i = 0; i < odds.size(); ++i)
      EXPECT_NEAR(odds[i], want.at("heldout_log_odds")[i], 5e-4) << layers << " " << i;
    if (is_root()) {
      const json record = json::parse(read_file(fs::path(c.path) / "training.json"));
      EXPECT_EQ(record.at("config"), "a: 1\n");
      EXPECT_NEAR(record.at("heldout").at("loss"), result.heldout.loss, 1e-12);
    }
  }
}

TEST_F(RewardTraining, leaves_what_is_frozen_as_it_was) {
  train(config("last 1"));
  const SafeTensors before = SafeTensors::open_folder(base()), after = SafeTensors::open_folder(folder_ / "model");
  int same = 0, changed = 0;
  for (const TensorView& view : before.tensors()) {
    const TensorView& now = after.at(view.name);
    const bool equal = std::equal(view.bytes.begin(), view.bytes.end(), now.bytes.begin(), now.bytes.end());
    const bool frozen =
        view.name.find("embeddings.") != std::string::npos || view.name.find("layer.0.") != std::string::npos;
    EXPECT_EQ(equal, frozen) << view.name;
    (equal ? same : changed) += 1;
  }
  EXPECT_EQ(same, 5 + 16);
  EXPECT_EQ(changed, 16 + 4);
}

TEST_F(RewardTraining, gives_the_same_bits_again_and_small_batches_the_same_update) {
  RewardConfig one = config("all"), two = config("all"), small = config("all");
  one.path = folder_ / "one";
  two.path = folder_ / "two";
  small.path = folder_ / "small";
  small.train.micro_batch = 2;  // parts of a batch: another order of sums, the same update
  one.train.batch = two.train.batch = small.train.batch = 4;
  for (const RewardConfig* c : {&one, &two, &small}) EXPECT_EQ(train(*c).updates, 12);
  EXPECT_EQ(folder_sha256(one.path), folder_sha256(two.path));
  const std::vector<double> a = log_odds_of(one.path), b = log_odds_of(small.path);
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 2e-3) << i;
}

TEST_F(RewardTraining, skips_what_is_done_and_refuses_what_is_not_its_own) {
  EXPECT_FALSE(train(config()).skipped);
  const std::string made = folder_sha256(folder_ / "model");
  EXPECT_TRUE(train(config()).skipped);
  RewardConfig other = config();
  other.train.learning_rate *= 2;
  EXPECT_THAT(refusal(other), AllOf(HasSubstr("seed or configuration"), HasSubstr("reward.path")));
  EXPECT_EQ(folder_sha256(folder_ / "model"), made);
  RewardConfig foreign = config();
  foreign.path = folder_ / "foreign";
  if (is_root()) {
    make_folders(foreign.path);
    write_file_atomically(fs::path(foreign.path) / "config.json", "{}");
  }
  group_->barrier("foreign folder");
  EXPECT_THAT(refusal(foreign), HasSubstr("not written by"));
}

TEST_F(RewardTraining, takes_a_base_with_a_vocab_txt_and_writes_such_a_model) {
  const fs::path bare = folder_ / "bare";
  for (const char* name : {"config.json", "model.safetensors"})
    written(std::string("bare/") + name, read_file(base() / name));
  // The vocabulary of the base's tokenizer.json.
  written("bare/vocab.txt", read_file(fs::path(VBON_TEST_DATA) / "golden/text/distilbert_files/vocab.txt"));
  written("bare/special_tokens_map.json", R"({"mask_token": "[MASK]"})");
  RewardConfig c = config("head");
  c.path = folder_ / "with";
  train(c);
  c.path = folder_ / "without";
  c.train.base = bare;
  EXPECT_FALSE(train(c).skipped);
  EXPECT_EQ(log_odds_of(folder_ / "without"), log_odds_of(folder_ / "with"));
  EXPECT_FALSE(fs::exists(folder_ / "without/tokenizer.json"));
  EXPECT_TRUE(fs::exists(folder_ / "without/special_tokens_map.json"));
  EXPECT_TRUE(train(c).skipped);
  written("bare/tokenizer_config.json", R"({"do_lower_case": false})");
  EXPECT_THAT(refusal(c), HasSubstr("another base"));
}

TEST_F(RewardTraining, begins_again_after_an_attempt_that_was_cut_short) {
  if (is_root()) {
    make_folders(folder_ / ".model.tmp");
    write_file_atomically(folder_ / ".model.tmp/config.json", "{");
  }
  group_->barrier("leftover");
  EXPECT_FALSE(train(config()).skipped);
  EXPECT_FALSE(fs::exists(folder_ / ".model.tmp"));
  EXPECT_EQ(log_odds_of(folder_ / "model").size(), 5u);
}

TEST_F(RewardTraining, stops_by_a_signal_without_writing) {
  const bool signalled = group_->rank() == group_->size() - 1;  // one rank gets it, all stop
  if (signalled) stop::request();
  const RewardTrainingResult result = train(config());
  EXPECT_EQ(result.code, ExitCode::requeue);
  EXPECT_FALSE(fs::exists(folder_ / "model"));
  stop::clear();
  EXPECT_EQ(train(config()).code, ExitCode::ok);
}

TEST_F(RewardTraining, learns_scores_by_one_output) {
  json scored;
  for (const json& record : golden_.at("texts"))
    scored.push_back({{"text", record.at("text")}, {"score", 4.0 * record.at("label").get<double>() - 2.0}});
  if (is_root()) write_file_atomically(folder_ / "scores.jsonl", lines_of(scored));
  group_->barrier("scores");
  RewardConfig c = config("all");
  c.train.labels = c.train.heldout = folder_ / "scores.jsonl";
  c.train.epochs = 60;
  const RewardTrainingResult result = train(c);
  EXPECT_LT(result.heldout.loss, 0.05);
  EXPECT_GT(result.heldout.correlation, 0.98);
  EXPECT_TRUE(std::isnan(result.heldout.auc));
  EXPECT_EQ(load_encoder(c.path, at::kCPU).spec.num_labels(), 1);
  RewardConfig mixed = config();
  mixed.path = folder_ / "mixed";
  mixed.train.labels = folder_ / "scores.jsonl";
  EXPECT_THAT(refusal(mixed), HasSubstr("the other scores"));
}

TEST_F(RewardTraining, refuses_what_it_cannot_do_before_it_works) {
  RewardConfig c = config("last 3");
  EXPECT_THAT(refusal(c), AllOf(HasSubstr("last 3"), HasSubstr("2")));
  c = config();
  c.train.labels = folder_ / "nowhere.jsonl";
  EXPECT_THAT(refusal(c), HasSubstr("nowhere.jsonl"));
  c = config();
  c.train.base = fs::path(VBON_TEST_DATA) / "golden/model/gpt2";
  EXPECT_THAT(refusal(c), HasSubstr("gpt2"));
  c = config();
  if (is_root())
    write_file_atomically(folder_ / "huge.jsonl", R"({"text":"a","score":1e30})"
                                                  "\n"
                                                  R"({"text":"b","score":-1e30})"
                                                  "\n");
  group_->barrier("huge scores");
  c.train.labels = folder_ / "huge.jsonl";
  c.train.heldout.clear();
  EXPECT_THAT(refusal(c), AllOf(HasSubstr("not finite"), HasSubstr("reward.train.learning_rate")));
  EXPECT_FALSE(fs::exists(folder_ / "model"));
}

TEST_F(RewardTraining, fits_ngram_models_and_measures_them) {
  RewardConfig c = config();
  c.kind = RewardKind::ngram;
  c.train.ngram.order = 1;
  const RewardTrainingResult result = train(c);
  const LabelSet heldout = read_labels(c.train.heldout);
  const NgramModel want = fit_ngram(read_labels(c.train.labels).records, c.train.ngram), model = load_ngram(c.path);
  EXPECT_EQ(model.weights, want.weights);
  std::vector<double> odds;
  for (const LabelRecord& record : heldout.records) odds.push_back(log_odds(want, record.text));
  EXPECT_EQ(result.heldout.texts, 5);
  EXPECT_DOUBLE_EQ(result.heldout.loss, label_metrics(heldout, odds).loss);
  EXPECT_TRUE(train(c).skipped);
}

TEST(LabelMetrics, are_those_of_numpy_and_scipy) {
  const json all = test::golden_json("reward/training.json");
  ASSERT_EQ(all.at("metrics").size(), 2u);
  for (const json& want : all.at("metrics")) {
    LabelSet labels;
    for (std::size_t i = 0; i < want.at("labels").size(); ++i)
      labels.records.push_back({"", want.at("labels")[i], want.at("weights")[i]});
    const LabelMetrics got = label_metrics(labels, want.at("predictions").get<std::vector<double>>());
    EXPECT_EQ(got.texts, 60);
    EXPECT_NEAR(got.loss, want.at("loss"), 1e-12);
    EXPECT_NEAR(got.accuracy, want.at("accuracy"), 1e-12);
    EXPECT_NEAR(got.auc, want.at("auc"), 1e-12);
    EXPECT_NEAR(got.calibration, want.at("calibration"), 1e-12);
    EXPECT_NEAR(got.correlation, want.at("correlation"), 1e-12);
  }
}

}  // namespace
}  // namespace vbon
