// Words, n-grams and fits against Python's (tests/golden/reward/make_ngram.py); files that load, and that must not.
#include "vbon/reward/ngram.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "unit/reward/scratch.hpp"
#include "vbon/base/files.hpp"

namespace vbon {
namespace {

using nlohmann::json;
using testing::HasSubstr;

json golden() {
  std::ifstream file(std::string(VBON_TEST_DATA) + "/golden/reward/ngram.json");
  return json::parse(file);
}

std::vector<LabelRecord> training_texts(const json& all) {
  std::vector<LabelRecord> texts;
  for (const json& row : all.at("train")) texts.push_back({row.at("text"), row.at("label"), row.at("weight")});
  return texts;
}

NgramConfig config_of(const json& fit) {
  NgramConfig config{.order = fit.at("order"), .prefix = fit.at("prefix"), .min_count = fit.at("min_count")};
  config.model = fit.at("model") == "logistic" ? NgramKind::logistic : NgramKind::naive_bayes;
  config.smoothing = config.l2 = fit.at("strength");
  return config;
}

TEST(NgramWords, are_those_of_python) {
  const json all = golden();
  ASSERT_GE(all.at("words").size(), 20u);
  for (const json& row : all.at("words")) {
    const std::string text = row.at("text");
    EXPECT_EQ(json(words_of(text)), row.at("words")) << text;
    std::vector<std::string> want = row.at("ngrams");
    EXPECT_THAT(ngrams_of(text, 3, 0), testing::UnorderedElementsAreArray(want)) << text;
    want = row.at("with_prefixes").get<std::vector<std::string>>();
    EXPECT_THAT(ngrams_of(text, 1, 4), testing::UnorderedElementsAreArray(want)) << text;
  }
}

TEST(NgramWords, take_bytes_that_are_no_text_as_separators) {
  EXPECT_THAT(words_of("good\xff\xfe"
                       "film\xc3"),
              testing::ElementsAre("good", "film"));
}

TEST(NgramFit, gives_numpys_naive_bayes_and_scipys_logistic_regression) {
  const json all = golden();
  ASSERT_EQ(all.at("fits").size(), 5u);
  for (const json& fit : all.at("fits")) {
    const bool logistic = fit.at("model") == "logistic";
    const NgramModel model = fit_ngram(training_texts(all), config_of(fit));
    ASSERT_EQ(model.vocabulary.size(), fit.at("vocabulary").size());
    // Naive Bayes is a few roundings away; the regressions stop where their gradients are about 1e-9.
    const double tolerance = logistic ? 1e-6 : 1e-12;
    for (const auto& [ngram, place] : fit.at("vocabulary").items())
      EXPECT_NEAR(model.weights.at(model.vocabulary.at(ngram)), fit.at("weights").at(place.get<std::size_t>()),
                  tolerance)
          << ngram;
    EXPECT_NEAR(model.bias, fit.at("bias"), tolerance);
    for (std::size_t i = 0; i < all.at("other").size(); ++i)
      EXPECT_NEAR(log_odds(model, all.at("other")[i].get<std::string>()), fit.at("log_odds")[i], 20 * tolerance);
  }
}

TEST(NgramFit, is_the_same_to_the_bit_each_time_and_after_files) {
  const json all = golden();
  const test::Scratch folder;
  for (const json& fit : all.at("fits")) {
    const NgramModel one = fit_ngram(training_texts(all), config_of(fit)),
                     two = fit_ngram(training_texts(all), config_of(fit));
    save_ngram(one, folder / "model");
    const NgramModel read = load_ngram(folder / "model");
    EXPECT_EQ(one.weights, two.weights);
    EXPECT_EQ(one.weights, read.weights);
    EXPECT_EQ(one.bias, read.bias);
    EXPECT_EQ(one.vocabulary, read.vocabulary);
    for (const json& text : all.at("other"))
      EXPECT_EQ(log_odds(one, text.get<std::string>()), log_odds(read, text.get<std::string>()));
  }
}

TEST(NgramFit, counts_a_text_of_weight_two_as_two_texts) {
  std::vector<LabelRecord> weighted = {{"good film", 1.0, 2.0}, {"bad film", 0.0, 1.0}};
  std::vector<LabelRecord> repeated = {{"good film", 1.0, 1.0}, {"good film", 1.0, 1.0}, {"bad film", 0.0, 1.0}};
  for (const NgramKind kind : {NgramKind::naive_bayes, NgramKind::logistic}) {
    const NgramModel a = fit_ngram(weighted, {.model = kind}), b = fit_ngram(repeated, {.model = kind});
    EXPECT_NEAR(log_odds(a, "a good film"), log_odds(b, "a good film"), 1e-7);
    EXPECT_GT(log_odds(a, "good"), log_odds(a, "bad"));
  }
}

TEST(NgramFit, refuses_what_it_cannot_learn_from) {
  const auto fit = [](std::vector<LabelRecord> texts, NgramConfig config = {}) {
    return test::refusal([&] { fit_ngram(texts, config); });
  };
  EXPECT_THAT(fit({{"a", 1.0, 1.0}, {"b", 1.0, 1.0}}), HasSubstr("one class"));
  EXPECT_THAT(fit({{"a", 1.0, 1.0}, {"b", 0.0, 0.0}}), HasSubstr("one class"));
  EXPECT_THAT(fit({{"a", 3.5, 1.0}, {"b", 0.0, 1.0}}), HasSubstr("3.5"));
  EXPECT_THAT(fit({{"a", 1.0, 1.0}, {"b", 0.0, 1.0}}, {.min_count = 2}), HasSubstr("min_count"));
}

TEST(NgramFiles, that_are_damaged_are_refused) {
  const test::Scratch folder;
  const std::vector<LabelRecord> texts = {{"good film", 1.0, 1.0}, {"bad film", 0.0, 1.0}};
  const auto refusal_with = [&](const std::string& name, const std::string& content) {
    save_ngram(fit_ngram(texts, {.order = 1}), folder / "m");
    write_file_atomically(folder / "m" / name, content);
    return test::refusal([&] { load_ngram(folder / "m"); });
  };
  EXPECT_THAT(refusal_with("vocab.json", R"({"bad":0,"film":1})"), HasSubstr("weight"));
  EXPECT_THAT(refusal_with("vocab.json", R"({"bad":0,"film":1,"good":1})"), HasSubstr("each once"));
  EXPECT_THAT(refusal_with("vocab.json", R"({"bad":0,"film":1,"good":-1})"), HasSubstr("each once"));
  EXPECT_THAT(refusal_with("vocab.json", R"({"bad":0,"film":1,"good":7})"), HasSubstr("each once"));
  EXPECT_THAT(refusal_with("vocab.json", R"({"bad":)"), HasSubstr("no valid JSON"));
  EXPECT_THAT(refusal_with("vocab.json", "[]"), HasSubstr("no JSON object"));
  EXPECT_THAT(refusal_with("config.json", R"({"model_type":"bert"})"), HasSubstr("classifier"));
  EXPECT_THAT(refusal_with("config.json", R"({"model_type":"vbon_ngram","order":9})"), HasSubstr("order"));
  EXPECT_THAT(refusal_with("config.json", R"({"model_type":"vbon_ngram","order":1,"prefix":-1})"), HasSubstr("prefix"));
  EXPECT_THAT(test::refusal([&] { load_ngram(folder / "nowhere"); }), HasSubstr("missing"));
}

}  // namespace
}  // namespace vbon
