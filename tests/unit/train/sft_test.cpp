// Supervised fine-tuning: which tokens are learned, their mean loss and its gradient by one whole forward a text, what
// is written, what is left alone. On one rank and on two.
#include "vbon/train/sft.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "unit/train/shared_folder.hpp"
#include "unit/train/toy_world.hpp"
#include "vbon/base/stop.hpp"
#include "vbon/text/tokenizer.hpp"

namespace vbon {
namespace {

using nlohmann::json;

// Tokens of a text and how many of them are context.
struct Text {
  std::vector<std::int32_t> tokens;
  std::size_t learned = 1;
};

class Sft : public test::SharedFolder {
 protected:
  void SetUp() override {
    SharedFolder::SetUp();
    const fs::path tokenizer = fs::path(VBON_TEST_DATA) / "golden/text/smollm2";
    if (is_root())
      export_causal_lm(
          test::toy_lm({.vocab = tokenizer_.vocab_size(), .layers = 2, .tied = false, .deviation = 0.15}, 31),
          folder_ / "base", {.source = tokenizer});
    text_ = {
        {{"text", "The cat sat on the mat."}},
        {{"prompt", "One two"}, {"response", " three four five"}},
        {{"text", "a"}},
        {{"text",
          "A very long line that goes on and on, beyond what the limit leaves of it, word after word after word."}},
        {{"prompt", "Why?"}, {"response", " So."}},
        {{"prompt", "Another very long line that goes on and on, beyond the limit, before the response"},
         {"response", " comes"}}};
    heldout_ = {{{"text", "The dog sat on the log."}}, {{"prompt", "Two"}, {"response", " three"}}};
    settings_.run.seed = 2;
    settings_.model = {.base = folder_ / "base", .reference = folder_ / "reference"};
    settings_.sft = {.text = written("text.jsonl", lines(text_)),
                     .heldout = written("heldout.jsonl", lines(heldout_)),
                     .epochs = 1,
                     .batch = 100,
                     .micro_batch = 2,
                     .max_length = 14};
    settings_.sft.optimizer = {.learning_rate = 0.5,
                               .beta1 = 0.9,
                               .eps = 1.0,
                               .weight_decay = 0,
                               .schedule = Schedule::constant,
                               .clip_norm = 0};
    settings_.cluster.threads = 1;
    settings_.cluster.device = comm::DeviceKind::cpu;
  }
  void TearDown() override {
    stop::clear();
    SharedFolder::TearDown();
  }

  static std::string lines(const std::vector<json>& records) {
    std::string all;
    for (const json& r : records) all += r.dump() + "\n";
    return all;
  }
  SftResult run() {
    losses_.clear();
    return run_sft(test::world(), settings_, {.resolved_yaml = "a: 1\n"},
                   [this](const SftProgress& p) { losses_.push_back(p.loss); });
  }
  std::string refusal() {
    try {
      run();
    } catch (const UserError& e) {
      return comm::from_root(*group_, e.what(), 0, "refusal");
    }
    return comm::from_root(*group_, "accepted", 0, "refusal");
  }

  // By the definition: a start token if there is one, the text, the end token; the first token and prompts are context.
  std::vector<Text> expected_texts(const std::vector<json>& records) const {
    std::vector<Text> texts;
    for (const json& r : records) {
      Text t;
      if (settings_.model.start_token) t.tokens.push_back(static_cast<std::int32_t>(*settings_.model.start_token));
      const auto append = [&](const char* key) {
        const auto more = tokenizer_.encode(r.at(key).get<std::string>());
        t.tokens.insert(t.tokens.end(), more.begin(), more.end());
      };
      if (r.contains("prompt")) {
        append("prompt");
        if (settings_.sft.loss == SftLoss::response) t.learned = t.tokens.size();
        append("response");
      } else {
        append("text");
      }
      t.tokens.push_back(0);
      if (t.tokens.size() > 14) t.tokens.resize(14);
      if (t.tokens.size() > t.learned) texts.push_back(t);
    }
    return texts;
  }
  // Mean of -log p over the learned tokens of all texts; differentiable.
  static at::Tensor loss_of(const CausalLm& model, const std::vector<Text>& texts, double* num_tokens = nullptr) {
    at::Tensor sum = at::zeros({}, at::kDouble);
    double count = 0;
    for (const Text& text : texts) {
      const std::vector<std::int64_t> ids(text.tokens.begin(), text.tokens.end());
      const at::Tensor log_p =
          at::log_softmax(forward_logits(model, at::tensor(ids, at::kLong).unsqueeze(0))[0].to(at::kDouble), -1);
      for (std::size_t t = text.learned; t < ids.size(); ++t) {
        sum = sum - log_p[static_cast<std::int64_t>(t) - 1][ids[t]];
        ++count;
      }
    }
    if (num_tokens != nullptr) *num_tokens = count;
    return sum / count;
  }
  static double number(const at::Tensor& loss) { return loss.item<double>(); }

  Tokenizer tokenizer_ = Tokenizer::load(fs::path(VBON_TEST_DATA) / "golden/text/smollm2");
  std::vector<json> text_, heldout_;
  std::vector<double> losses_;  // on the root
  Settings settings_;
};

TEST_F(Sft, one_update_on_the_mean_over_the_learned_tokens) {
  for (const char* form : {"without", "with start", "whole"}) {
    if (form == std::string("with start")) settings_.model.start_token = 1;
    if (form == std::string("whole")) settings_.sft.loss = SftLoss::whole;
    settings_.model.reference = folder_ / form;
    const std::vector<Text> texts = expected_texts(text_);
    // The last has no room for its response.
    ASSERT_EQ(texts.size(), settings_.sft.loss == SftLoss::whole ? 6u : 5u);
    CausalLm base = load_causal_lm(settings_.model.base, at::kCPU);
    Policy all = make_policy(base, {});
    const auto parameters = trained_parameters(all);
    FlatParameters flat(parameters);
    double tokens = 0;
    const at::Tensor loss = loss_of(all.model, texts, &tokens);
    loss.backward();
    const double heldout = number(loss_of(base, expected_texts(heldout_)));

    const SftResult result = run();
    EXPECT_EQ(result.updates, 1);
    EXPECT_EQ(result.tokens, static_cast<std::int64_t>(tokens));
    EXPECT_NEAR(result.perplexity_before, std::exp(heldout), 1e-5 * std::exp(heldout));
    if (is_root()) {
      ASSERT_EQ(losses_.size(), 1u);
      EXPECT_NEAR(losses_[0], number(loss), 1e-5 * number(loss));
    }
    // AdamW's first step with epsilon 1: rate g / (|g| + 1), so its size tells the gradient's.
    const CausalLm made = load_causal_lm(settings_.model.reference, at::kCPU);
    CausalLm view = made;
    std::map<std::string, at::Tensor*> after;
    for (const WeightEntry& entry : weight_table(made.spec)) after.emplace(entry.name, &entry.target(view));
    const at::NoGradGuard no_grad;
    double largest = 0;
    for (const NamedParameter& p : parameters) {
      const at::Tensor g = p.tensor->grad(), want = -0.5 * g / (g.abs() + 1), moved = *after.at(p.name) - *p.tensor;
      EXPECT_LE((moved - want).abs().max().item<double>(), 2e-6) << p.name;
      largest = std::max(largest, want.abs().max().item<double>());
    }
    EXPECT_GT(largest, 0.01);
    const double after_heldout = number(loss_of(made, expected_texts(heldout_)));
    EXPECT_NEAR(result.perplexity_after, std::exp(after_heldout), 1e-5 * std::exp(after_heldout));
  }
}

TEST_F(Sft, a_few_epochs_learn_the_text_whatever_the_micro_batch) {
  settings_.sft.epochs = 12;
  settings_.sft.batch = 2;
  settings_.sft.optimizer = {.learning_rate = 5e-3, .warmup = 3};
  const double before = number(loss_of(load_causal_lm(settings_.model.base, at::kCPU), expected_texts(text_)));
  const SftResult first = run();
  EXPECT_EQ(first.updates, 12 * 3);  // five texts in twos
  const CausalLm learned = load_causal_lm(settings_.model.reference, at::kCPU);
  EXPECT_LT(number(loss_of(learned, expected_texts(text_))), 0.5 * before);
  settings_.model.reference = folder_ / "other";
  settings_.sft.micro_batch = 1;
  const SftResult second = run();
  EXPECT_NEAR(second.perplexity_after, first.perplexity_after, 1e-3 * first.perplexity_after);
  EXPECT_EQ(second.tokens, first.tokens);
}

TEST_F(Sft, the_perplexity_may_be_of_the_first_held_out_texts) {
  settings_.sft.max_heldout = 1;
  const CausalLm base = load_causal_lm(settings_.model.base, at::kCPU);
  const double of_one = std::exp(number(loss_of(base, {expected_texts(heldout_).front()}))),
               of_all = std::exp(number(loss_of(base, expected_texts(heldout_))));
  ASSERT_GT(std::abs(of_one - of_all), 1e-3 * of_all);
  EXPECT_NEAR(run().perplexity_before, of_one, 1e-5 * of_one);
}

TEST_F(Sft, leaves_the_layers_below_alone) {
  settings_.sft.layers = TrainedLayers::parse("last 1");
  run();
  const auto before = named_tensors(load_causal_lm(settings_.model.base, at::kCPU));
  const auto after = named_tensors(load_causal_lm(settings_.model.reference, at::kCPU));
  ASSERT_EQ(before.size(), after.size());
  for (std::size_t i = 0; i < before.size(); ++i) {
    const std::string& name = before[i].first;
    const bool trained =
        name.find("layers.1.") != std::string::npos || name == "model.norm.weight" || name == "lm_head.weight";
    EXPECT_EQ(!after[i].second.equal(before[i].second), trained) << name;
  }
}

TEST_F(Sft, is_skipped_when_done_and_refused_when_anything_that_matters_changed) {
  run();
  settings_.sft.micro_batch = 5;  // memory alone
  EXPECT_TRUE(run().skipped);
  const Settings done = settings_;
  const auto changed = [&](auto&& change) {
    settings_ = done;
    change(settings_);
    return refusal();
  };
  const auto another = testing::HasSubstr("made from another base model, text, seed or sft configuration");
  EXPECT_THAT(changed([](Settings& s) { s.sft.optimizer.learning_rate = 0.4; }), another);
  EXPECT_THAT(changed([](Settings& s) { s.sft.optimizer.eps = 0.5; }), another);
  EXPECT_THAT(changed([](Settings& s) { s.sft.optimizer.clip_norm = 0.1; }), another);
  EXPECT_THAT(changed([](Settings& s) { s.sft.optimizer.weight_decay = 0.1; }), another);
  EXPECT_THAT(changed([](Settings& s) { s.sft.optimizer.warmup = 1; }), another);
  EXPECT_THAT(changed([](Settings& s) { s.sft.epochs = 2; }), another);
  EXPECT_THAT(changed([](Settings& s) { s.sft.batch = 3; }), another);
  EXPECT_THAT(changed([](Settings& s) { s.sft.max_length = 9; }), another);
  EXPECT_THAT(changed([](Settings& s) { s.sft.max_texts = 2; }), another);
  EXPECT_THAT(changed([](Settings& s) { s.sft.loss = SftLoss::whole; }), another);
  EXPECT_THAT(changed([](Settings& s) { s.sft.layers = {1}; }), another);
  EXPECT_THAT(changed([](Settings& s) { s.model.start_token = 1; }), another);
  EXPECT_THAT(changed([](Settings& s) { s.run.seed = 3; }), another);
  settings_ = done;
  settings_.sft.text = written("text.jsonl", lines(heldout_));
  EXPECT_THAT(refusal(), another);
}

TEST_F(Sft, foreign_folders_and_texts_without_tokens_are_refused_and_signals_stop) {
  written("reference/mine.txt", "");
  EXPECT_THAT(refusal(), testing::HasSubstr("was not written by `vbon sft`"));
  settings_.model.reference = folder_ / "new";
  settings_.sft.max_length = 14;
  settings_.sft.text = written("long.jsonl", lines({text_.back()}));
  EXPECT_THAT(refusal(), testing::HasSubstr("no text of at least two tokens"));
  settings_.sft.text = written("text.jsonl", lines(text_));
  settings_.sft.batch = 1;
  stop::request();
  const SftResult stopped = run();
  EXPECT_EQ(stopped.code, ExitCode::requeue);
  EXPECT_FALSE(fs::exists(settings_.model.reference));
}

}  // namespace
}  // namespace vbon
