// A classifier over text: tokens of a text within a length limit, batches of one fixed shape, logits.
//
// Batches always have the same number of rows, and a row is padded to a length that its own number of tokens decides.
// So the computation that a row goes through does not depend on what it is scored together with, and neither does a bit
// of its logits.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "vbon/model/text_classifier.hpp"
#include "vbon/text/tokenizer.hpp"

namespace vbon {

using TokenRow = std::vector<std::int32_t>;

// Text to token ids with the tokenizer's special tokens around them ([CLS] … [SEP]; a language model's may have none).
// What looks like a special token inside a text is text. Of a text that is too long the end is kept: that is where the
// response stands.
class TextRows {
 public:
  // Rows of at most `max_length` tokens (or as many as the model has positions). `append_eos`: texts end with a causal
  // model's end token, which the head then reads. UserError where tokenizer, model and wishes do not belong together.
  TextRows(Tokenizer tokenizer, const ClassifierFacts& model, std::int64_t max_length, bool append_eos = false);

  // At least one token: an empty text is the end token alone, and a UserError where the model has none.
  TokenRow encode(std::string_view text) const;
  std::int64_t max_length() const { return max_length_; }
  // What a row of `tokens` tokens is padded to: the next multiple of 4 within max_length.
  std::int64_t padded_length(std::int64_t tokens) const;

 private:
  Tokenizer tokenizer_;
  std::int64_t max_length_ = 0;
  std::int64_t before_ = 0;  // special tokens in front of a text
  bool append_eos_ = false;
  std::optional<std::int32_t> end_token_;
};

struct PaddedRows {
  at::Tensor tokens;   // int64 [rows, length]
  at::Tensor lengths;  // int64 [rows]
};
// `rows` >= picked.size() rows of `length` tokens: all[picked[i]], then copies of the first of them.
PaddedRows pad_rows(std::span<const TokenRow> all, std::span<const std::size_t> picked, std::int64_t rows,
                    std::int64_t length, at::Device device);

// Places of rows that are run together: of one padded length, at most `most` a group; short rows first.
std::vector<std::vector<std::size_t>> groups_by_length(std::span<const TokenRow> all, const TextRows& text,
                                                       std::int64_t most);

// Logits of every row, float32 [rows.size(), C] on the CPU, from batches of exactly `batch` rows.
at::Tensor classifier_logits(const TextClassifier& model, std::span<const TokenRow> rows, const TextRows& text,
                             std::int64_t batch);

// Index of `label` (a name of id2label in any case, or a number; empty: the last). UserError listing the names.
std::size_t label_index(const ClassifierFacts& model, std::string_view label);

}  // namespace vbon
