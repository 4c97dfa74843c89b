// Every architecture against what `transformers` computed (make_models.py): logits, loss, named gradients, caches,
// export.
#include "vbon/model/causal_lm.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>

#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/model/hf_weights.hpp"
#include "vbon/model/kv_cache.hpp"
#include "vbon/model/tensor_io.hpp"
#include "vbon/model/vocab_head.hpp"
#include "vbon/store/safetensors.hpp"

namespace vbon {
namespace {

fs::path golden() { return fs::path(VBON_TEST_DATA) / "golden/model"; }

at::Tensor load_long(const SafeTensors& file, const std::string& name) {
  const TensorView& view = file.at(name);
  at::Tensor out = at::zeros_like(at::arange(view.num_elements(), at::kLong));
  std::memcpy(out.mutable_data_ptr(), view.bytes.data(), view.bytes.size());
  return out.view(view.shape);
}

double max_difference(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

// Largest |difference| allowed: float32 rounding (6e-8) of sums of a few dozen terms of size |values|, with room.
double tolerance(const at::Tensor& values) { return 4e-6 * std::max(1.0, values.abs().max().item<double>()); }

class GoldenCausalLm : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    folder_ = golden() / GetParam();
    model_ = load_causal_lm(folder_, at::kCPU);
    tokens_ = load_long(file_, "tokens");
    lengths_ = load_long(file_, "lengths");
  }
  at::Tensor expected(const std::string& name) const { return to_tensor(file_.at(name), at::kFloat); }
  std::int64_t length(std::int64_t row) const { return lengths_[row].item<std::int64_t>(); }

  fs::path folder_ = golden() / GetParam();
  SafeTensors file_ = SafeTensors::open_file(folder_ / "expected.safetensors");
  CausalLm model_;
  at::Tensor tokens_, lengths_;  // [3, 11], [3]
};

TEST_P(GoldenCausalLm, logits_match_padded_and_alone) {
  const at::Tensor logits = forward_logits(model_, tokens_);
  const at::Tensor want = expected("logits");
  for (std::int64_t row = 0; row < tokens_.size(0); ++row) {
    const at::Tensor wanted = want[row].narrow(0, 0, length(row));
    EXPECT_LE(max_difference(logits[row].narrow(0, 0, length(row)), wanted), tolerance(want)) << "row " << row;
    const at::Tensor alone = forward_logits(model_, tokens_[row].narrow(0, 0, length(row)).unsqueeze(0));
    EXPECT_LE(max_difference(alone[0], wanted), tolerance(want)) << "row " << row << " without padding";
  }
}

TEST_P(GoldenCausalLm, loss_and_every_named_gradient_match) {
  std::map<std::string, at::Tensor> gradients;
  CausalLm leaves = model_;
  std::map<const void*, at::Tensor*> targets;
  for (const WeightEntry& entry : weight_table(model_.spec)) {
    at::Tensor& t = entry.target(leaves);
    if (!t.requires_grad()) t.set_requires_grad(true);
  }
  if (model_.spec.tied_embeddings) leaves.head = leaves.token_embedding;
  // As a learner runs it: rows without padding, those that predict a token through the fused head. The loss of the
  // oracle is a mean of token log-probabilities.
  std::vector<std::vector<std::int64_t>> sequences;
  std::vector<std::int64_t> rows, next;
  std::vector<at::Tensor> inputs;
  std::int64_t begin = 0;
  for (std::int64_t b = 0; b < tokens_.size(0); begin += length(b++)) {
    std::vector<std::int64_t>& sequence = sequences.emplace_back(length(b));
    std::iota(sequence.begin(), sequence.end(), begin);
    inputs.push_back(tokens_[b].narrow(0, 0, length(b)));
    for (std::int64_t t = 0; t + 1 < length(b); ++t) {
      rows.push_back(begin + t);
      next.push_back(tokens_[b][t + 1].item<std::int64_t>());
    }
  }
  const RaggedRows ragged = ragged_rows(sequences, at::kCPU);
  const at::Tensor hidden =
      final_hidden(leaves, run_blocks(leaves, embed(leaves, at::cat(inputs), ragged.positions), ragged.positions, 0,
                                      leaves.num_layers(), ragged_attention(leaves.spec, ragged)));
  const at::Tensor picked = hidden.index_select(0, at::tensor(rows, at::kLong));
  const at::Tensor loss = -token_statistics(picked, leaves.head, at::tensor(next, at::kLong), 1.0).logp.mean();
  EXPECT_NEAR(loss.item<double>(), expected("loss").item<double>(), 2e-6 * std::abs(loss.item<double>()));
  loss.backward();
  CausalLm grads = leaves;
  for (const WeightEntry& entry : weight_table(model_.spec)) {
    const at::Tensor gradient = entry.target(leaves).grad();
    ASSERT_TRUE(gradient.defined()) << entry.name;
    entry.target(grads) = gradient;
  }
  int compared = 0;
  for (const auto& [name, gradient] : named_tensors(grads)) {
    const at::Tensor want = expected("grad." + name);
    EXPECT_EQ(gradient.sizes(), want.sizes()) << name;
    // Gradients sum over ~20 rows; errors grow with the largest entry.
    EXPECT_LE(max_difference(gradient, want), 2e-5 * std::max(0.1, want.abs().max().item<double>())) << name;
    ++compared;
  }
  EXPECT_GE(compared, 20);
}

// Prompts of different lengths prefilled together, then the other tokens one by one.
at::Tensor decode_all(const CausalLm& model, const at::Tensor& tokens, const std::vector<std::int64_t>& prompts,
                      std::int64_t steps, bool portable) {
  const std::int64_t batch = tokens.size(0), longest = *std::max_element(prompts.begin(), prompts.end());
  const at::Tensor positions = row_positions(batch, longest, at::kCPU);
  std::vector<PrefixCache> caches;
  run_blocks(model, embed(model, tokens.narrow(1, 0, longest).reshape({-1}), positions), positions, 0,
             model.num_layers(), prefill_attention(model.spec, batch, longest, prompts, caches));
  SuffixCache suffix = make_suffix_cache(model, batch + 2, steps);
  std::vector<at::Tensor> logits;
  for (std::int64_t step = 0; step < steps; ++step) {
    DecodeRows rows;
    std::vector<std::int64_t> token, position;
    for (std::int64_t b = 0; b < batch; ++b) {
      rows.slot.push_back((b * 2 + 1) % (batch + 2));  // slots in no particular order
      rows.prefix.push_back(b);
      rows.suffix_length.push_back(step);
      position.push_back(prompts[static_cast<std::size_t>(b)] + step);
      token.push_back(tokens[b][position.back()].item<std::int64_t>());
    }
    const at::Tensor at_positions = at::tensor(position, at::kLong);
    const at::Tensor x = run_blocks(model, embed(model, at::tensor(token, at::kLong), at_positions), at_positions, 0,
                                    model.num_layers(), decode_attention(model.spec, caches, suffix, rows, portable));
    logits.push_back(head_logits(model, final_hidden(model, x)));
  }
  return at::stack(logits, 1);  // [B, steps, V]
}

TEST_P(GoldenCausalLm, cached_decoding_equals_the_whole_forward) {
  const std::vector<std::int64_t> prompts = {4, 1, 6};
  const std::int64_t steps = 5;
  const at::Tensor whole = forward_logits(model_, tokens_);
  for (const bool portable : {false, true}) {
    const at::Tensor decoded = decode_all(model_, tokens_, prompts, steps, portable);
    for (std::int64_t b = 0; b < 3; ++b)
      EXPECT_LE(max_difference(decoded[b], whole[b].narrow(0, prompts[static_cast<std::size_t>(b)], steps)),
                tolerance(whole))
          << (portable ? "tensors" : "loop") << ", row " << b;
  }
}

TEST_P(GoldenCausalLm, export_writes_the_same_tensors_back) {
  const fs::path out = fs::path(testing::TempDir()) / ("export_" + std::string(GetParam()));
  export_causal_lm(model_, out, {.source = folder_, .temperature = 0.7, .max_new_tokens = 9});
  const SafeTensors original = SafeTensors::open_folder(folder_), written = SafeTensors::open_folder(out);
  for (const TensorView& view : original.tensors()) {
    const TensorView* other = written.find(view.name);
    ASSERT_NE(other, nullptr) << view.name;
    EXPECT_EQ(view.shape, other->shape) << view.name;
    EXPECT_TRUE(std::equal(view.bytes.begin(), view.bytes.end(), other->bytes.begin(), other->bytes.end()))
        << view.name;
  }
  EXPECT_EQ(original.tensors().size(), written.tensors().size());
  EXPECT_LE(max_difference(forward_logits(load_causal_lm(out, at::kCPU), tokens_), forward_logits(model_, tokens_)),
            0.0);
  fs::remove_all(out);
}

INSTANTIATE_TEST_SUITE_P(Architectures, GoldenCausalLm,
                         testing::Values("llama_gqa_tied", "llama_mha_untied", "llama_biases_wide_heads",
                                         "llama_rope_llama3", "llama_rope_linear", "gpt2", "gpt2_inner_scaled",
                                         "neox_parallel", "neox_serial_tied"),
                         [](const auto& test_info) { return std::string(test_info.param); });

}  // namespace
}  // namespace vbon
