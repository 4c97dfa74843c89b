#include "vbon/reward/classifier.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <charconv>
#include <map>

#include "vbon/base/error.hpp"
#include "vbon/base/words.hpp"

namespace vbon {
namespace {

constexpr std::int64_t kLengthStep = 4;

std::string ascii_lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return lower;
}

}  // namespace

TextRows::TextRows(Tokenizer tokenizer, const ClassifierFacts& model, std::int64_t max_length, bool append_eos)
    : tokenizer_(std::move(tokenizer)), max_length_(std::min(max_length, model.max_positions)), append_eos_(append_eos),
      end_token_(model.end_token) {
  require(tokenizer_.vocab_size() <= model.vocab_size,
          "the tokenizer has {} tokens, the model's embedding {}: they do not belong together", tokenizer_.vocab_size(),
          model.vocab_size);
  require(model.causal || !append_eos,
          "append_eos is for causal language models; the tokenizer of an encoder ends texts itself");
  require(end_token_.has_value() || !append_eos, "append_eos: the model's config.json names no eos_token_id");
  const TokenRow bare = tokenizer_.encode("a", {.add_special_tokens = false});
  const TokenRow whole = tokenizer_.encode("a");
  const auto found = std::search(whole.begin(), whole.end(), bare.begin(), bare.end());
  require(found != whole.end() && (model.causal || whole.size() > bare.size()),
          "the tokenizer puts no special tokens around a text; an encoder's own tokenizer is needed");
  before_ = found - whole.begin();
  const bool ends_anew = append_eos && whole.back() != *end_token_;
  const auto around = static_cast<std::int64_t>(whole.size() - bare.size()) + (ends_anew ? 1 : 0);
  require(max_length_ > around, "max_length is {}, but special tokens alone are {}", max_length_, around);
}

TokenRow TextRows::encode(std::string_view text) const {
  TokenRow ids = tokenizer_.encode(text, {.parse_special = false});
  if (end_token_ && (ids.empty() || (append_eos_ && ids.back() != *end_token_))) ids.push_back(*end_token_);
  require(!ids.empty(), "an empty text has no last token to read a reward at, and the model no end token");
  const std::int64_t excess = static_cast<std::int64_t>(ids.size()) - max_length_;
  if (excess > 0) ids.erase(ids.begin() + before_, ids.begin() + before_ + excess);
  return ids;
}

std::int64_t TextRows::padded_length(std::int64_t tokens) const {
  return std::min(max_length_, (tokens + kLengthStep - 1) / kLengthStep * kLengthStep);
}

PaddedRows pad_rows(std::span<const TokenRow> all, std::span<const std::size_t> picked, std::int64_t rows,
                    std::int64_t length, at::Device device) {
  check(!picked.empty() && static_cast<std::int64_t>(picked.size()) <= rows, "pad_rows: 1 to `rows` rows");
  at::Tensor tokens = at::zeros({rows, length}, at::kLong), lengths = at::empty({rows}, at::kLong);
  std::int64_t* const ids = tokens.mutable_data_ptr<std::int64_t>();
  std::int64_t* const sizes = lengths.mutable_data_ptr<std::int64_t>();
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto place = static_cast<std::size_t>(r);
    const TokenRow& row = all[picked[place < picked.size() ? place : 0]];
    check(static_cast<std::int64_t>(row.size()) <= length, "pad_rows: a row longer than the batch");
    std::copy(row.begin(), row.end(), ids + r * length);
    sizes[r] = static_cast<std::int64_t>(row.size());
  }
  return {tokens.to(device), lengths.to(device)};
}

std::vector<std::vector<std::size_t>> groups_by_length(std::span<const TokenRow> all, const TextRows& text,
                                                       std::int64_t most) {
  std::map<std::int64_t, std::vector<std::size_t>> by_length;
  for (std::size_t i = 0; i < all.size(); ++i)
    by_length[text.padded_length(static_cast<std::int64_t>(all[i].size()))].push_back(i);
  std::vector<std::vector<std::size_t>> groups;
  for (const auto& [length, places] : by_length)
    for (std::size_t begin = 0; begin < places.size(); begin += static_cast<std::size_t>(most)) {
      const std::size_t end = std::min(places.size(), begin + static_cast<std::size_t>(most));
      groups.emplace_back(places.begin() + static_cast<std::ptrdiff_t>(begin),
                          places.begin() + static_cast<std::ptrdiff_t>(end));
    }
  return groups;
}

at::Tensor classifier_logits(const TextClassifier& model, std::span<const TokenRow> rows, const TextRows& text,
                             std::int64_t batch) {
  const at::NoGradGuard no_grad;
  at::Tensor logits =
      at::empty({static_cast<std::int64_t>(rows.size()), std::ssize(facts_of(model).label_names)}, at::kFloat);
  for (const std::vector<std::size_t>& group : groups_by_length(rows, text, batch)) {
    const std::int64_t length = text.padded_length(static_cast<std::int64_t>(rows[group.front()].size()));
    const PaddedRows padded = pad_rows(rows, group, batch, length, device_of(model));
    const at::Tensor out = forward_logits(model, padded.tokens, padded.lengths).to(at::kCPU, at::kFloat);
    for (std::size_t i = 0; i < group.size(); ++i)
      logits[static_cast<std::int64_t>(group[i])].copy_(out[static_cast<std::int64_t>(i)]);
  }
  return logits;
}

std::size_t label_index(const ClassifierFacts& model, std::string_view label) {
  const std::vector<std::string>& names = model.label_names;
  check(!names.empty(), "label_index: a classifier has labels");
  if (label.empty()) return names.size() - 1;
  for (std::size_t i = 0; i < names.size(); ++i)
    if (ascii_lower(names[i]) == ascii_lower(label)) return i;
  std::size_t index = 0;
  const auto [end, error] = std::from_chars(label.data(), label.data() + label.size(), index);
  require(error == std::errc() && end == label.data() + label.size() && index < names.size(),
          "the classifier has no label '{}'; its labels are {} (or 0 … {})", label, joined(names), names.size() - 1);
  return index;
}

}  // namespace vbon
