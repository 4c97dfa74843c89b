// A linear model on the words of a text: log odds = bias + the sum of the weights of the word n-grams that occur in it
// (how often does not count). Cheap, readable, and of another class than any neural reward: an evaluator.
//
// Words: the text in lower case, cut into maximal runs of letters, marks and digits (Unicode categories L, M, N). An
// apostrophe (' or U+2019) between two of those belongs to the word. Everything else separates. n-grams are runs of
// 1 … order words, joined by a blank. Bytes that are no UTF-8 separate, too. With a prefix length, a word that is
// longer counts by its first letters as well ("^delig"): a plain stemming that lets kindred words share what they tell.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "vbon/reward/reward_config.hpp"
#include "vbon/text/records.hpp"

namespace vbon {

struct NgramModel {
  std::int64_t order = 2;
  std::int64_t prefix = 0;                                  // code points; 0: without
  std::unordered_map<std::string, std::size_t> vocabulary;  // n-gram -> place in weights
  std::vector<double> weights;
  double bias = 0;
};

std::vector<std::string> words_of(std::string_view text);
// Distinct, in order of first occurrence.
std::vector<std::string> ngrams_of(std::string_view text, std::int64_t order, std::int64_t prefix);

double log_odds(const NgramModel& model, std::string_view text);

// Fits labels in [0, 1] (soft ones count for both classes) with weights. The same texts in the same order give the same
// bits. n-grams of fewer than min_count texts are left out.
//   naive_bayes: weight = log((n1 + s) / (N1 + s V)) - log((n0 + s) / (N0 + s V)), where n1, n0 are the weights of the
//     texts of either class with the n-gram, N1, N0 their sums over the V n-grams; bias = log odds of the classes.
//   logistic: minimises  sum of weight * cross-entropy + l2/2 |weights|^2  (the bias is free) by Newton's method.
// UserError where a class is empty or no n-gram is left.
NgramModel fit_ngram(std::span<const LabelRecord> texts, const NgramConfig& config);

// config.json {"model_type": "vbon_ngram", "order", "prefix"}, vocab.json {n-gram: place}, model.safetensors with
// `weight` and `bias` in F64.
void save_ngram(const NgramModel& model, const std::filesystem::path& folder);
NgramModel load_ngram(const std::filesystem::path& folder);

}  // namespace vbon
