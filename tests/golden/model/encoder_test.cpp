// Encoders against what `transformers` computed (make_models.py): output, loss, named gradients, padding, layouts,
// export.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/zeros_like.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/model/encoder_weights.hpp"
#include "vbon/model/tensor_io.hpp"
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

// What the oracle calls the model's output: logits, or of a bare encoder the mean over real tokens.
at::Tensor output(const Encoder& encoder, const at::Tensor& tokens, const at::Tensor& lengths) {
  if (encoder.spec.pooling != Pooling::none) return forward_logits(encoder, tokens, lengths);
  return mean_over_tokens(forward_hidden(encoder, tokens, lengths), token_mask(lengths, tokens.size(1)));
}

// A folder of its own for what a test writes.
fs::path scratch(const std::string& name) {
  const fs::path folder = fs::path(testing::TempDir()) / ("encoder_" + name);
  fs::remove_all(folder);
  make_folders(folder);
  return folder;
}

class GoldenEncoder : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    encoder_ = load_encoder(folder_, at::kCPU);
    tokens_ = load_long(file_, "tokens");
    lengths_ = load_long(file_, "lengths");
  }
  at::Tensor expected(const std::string& name) const { return to_tensor(file_.at(name), at::kFloat); }

  fs::path folder_ = golden() / GetParam();
  SafeTensors file_ = SafeTensors::open_file(folder_ / "expected.safetensors");
  Encoder encoder_;
  at::Tensor tokens_, lengths_;  // [3, 9], [3]
};

TEST_P(GoldenEncoder, output_matches_padded_and_alone) {
  const at::Tensor want = expected("output");
  EXPECT_LE(max_difference(output(encoder_, tokens_, lengths_), want), tolerance(want));
  for (std::int64_t row = 0; row < tokens_.size(0); ++row) {
    const std::int64_t length = lengths_[row].item<std::int64_t>();
    const at::Tensor alone =
        output(encoder_, tokens_.narrow(0, row, 1).narrow(1, 0, length), lengths_.narrow(0, row, 1));
    EXPECT_LE(max_difference(alone[0], want[row]), tolerance(want)) << "row " << row << " without padding";
  }
}

TEST_P(GoldenEncoder, what_stands_in_the_padding_does_not_count) {
  const at::Tensor mask = token_mask(lengths_, tokens_.size(1)).view(tokens_.sizes());
  const at::Tensor other = tokens_ * mask + (1 - mask.to(at::kLong)) * 17;
  ASSERT_GT(max_difference(other, tokens_), 0);
  EXPECT_EQ(max_difference(output(encoder_, other, lengths_), output(encoder_, tokens_, lengths_)), 0.0);
}

TEST_P(GoldenEncoder, loss_and_every_named_gradient_match) {
  for (const EncoderEntry& entry : weight_table(encoder_.spec)) {
    at::Tensor& t = entry.target(encoder_);
    if (!t.requires_grad()) t.set_requires_grad(true);
  }
  const at::Tensor result = output(encoder_, tokens_, lengths_);
  const at::Tensor loss = (result * at::linspace(-1.0, 1.0, result.numel()).view_as(result)).sum();
  const at::Tensor want_loss = expected("loss");
  EXPECT_NEAR(loss.item<double>(), want_loss.item<double>(), tolerance(result) * static_cast<double>(result.numel()));
  loss.backward();
  Encoder gradients = encoder_;
  for (const EncoderEntry& entry : weight_table(encoder_.spec)) {
    const at::Tensor gradient = entry.target(encoder_).grad();
    entry.target(gradients) = gradient.defined() ? gradient : at::zeros_like(entry.target(encoder_));
  }
  int compared = 0;
  for (const auto& [name, gradient] : named_tensors(gradients)) {
    if (file_.find("grad." + name) == nullptr) {  // the bare encoder's pooler, which nothing reads
      EXPECT_THAT(name, testing::HasSubstr("pooler"));
      EXPECT_EQ(gradient.abs().max().item<double>(), 0.0);
      continue;
    }
    const at::Tensor want = expected("grad." + name);
    EXPECT_EQ(gradient.sizes(), want.sizes()) << name;
    EXPECT_LE(max_difference(gradient, want), 2e-5 * std::max(0.1, want.abs().max().item<double>())) << name;
    ++compared;
  }
  EXPECT_GE(compared, 36);
  const auto is_gradient = [](const TensorView& view) { return view.name.starts_with("grad."); };
  EXPECT_EQ(compared, std::count_if(file_.tensors().begin(), file_.tensors().end(), is_gradient));
}

TEST_P(GoldenEncoder, a_frozen_bottom_run_apart_gives_the_same_output_and_gradients) {
  const at::Tensor mask = token_mask(lengths_, tokens_.size(1));
  const at::Tensor trunk = run_blocks(encoder_, embed(encoder_, tokens_), mask, 0, 1);
  EncoderBlock& top = encoder_.blocks[1];
  top.mlp_out.weight.set_requires_grad(true);
  const at::Tensor hidden = run_blocks(encoder_, trunk, mask, 1, 2);
  EXPECT_EQ(max_difference(hidden, forward_hidden(encoder_, tokens_, lengths_)), 0.0);
  const bool bare = encoder_.spec.pooling == Pooling::none;
  const at::Tensor result = bare ? mean_over_tokens(hidden, mask) : classify(encoder_, hidden, mask);
  (result * at::linspace(-1.0, 1.0, result.numel()).view_as(result)).sum().backward();
  const bool distil = encoder_.spec.model_type == "distilbert";
  const at::Tensor want = expected(distil ? "grad.distilbert.transformer.layer.1.ffn.lin2.weight"
                                   : bare ? "grad.encoder.layer.1.output.dense.weight"
                                          : "grad.bert.encoder.layer.1.output.dense.weight");
  EXPECT_LE(max_difference(top.mlp_out.weight.grad(), want), 2e-5 * std::max(0.1, want.abs().max().item<double>()));
}

TEST_P(GoldenEncoder, export_writes_the_same_tensors_back) {
  const fs::path out = scratch(std::string("export_") + GetParam());
  export_encoder(encoder_, out, folder_);
  const SafeTensors original = SafeTensors::open_folder(folder_), written = SafeTensors::open_folder(out);
  for (const TensorView& view : original.tensors()) {
    const TensorView* other = written.find(view.name);
    ASSERT_NE(other, nullptr) << view.name;
    EXPECT_EQ(view.shape, other->shape) << view.name;
    EXPECT_TRUE(std::equal(view.bytes.begin(), view.bytes.end(), other->bytes.begin(), other->bytes.end()))
        << view.name;
  }
  EXPECT_EQ(original.tensors().size(), written.tensors().size());
  const Encoder again = load_encoder(out, at::kCPU);
  EXPECT_EQ(again.spec.label_names, encoder_.spec.label_names);
  EXPECT_EQ(max_difference(output(again, tokens_, lengths_), output(encoder_, tokens_, lengths_)), 0.0);
}

// Names without the architecture's prefix (or with it, where the file has none), norms' tensors as gamma and beta,
// bf16.
TEST_P(GoldenEncoder, other_layouts_of_the_same_weights_load) {
  const std::string prefix = encoder_.spec.model_type + ".";
  NamedTensors renamed, rounded;
  for (auto [name, tensor] : named_tensors(encoder_)) {
    rounded.emplace_back(name, tensor.to(at::kBFloat16));
    const bool head = name.find("classifier") != std::string::npos;
    if (name.starts_with(prefix)) name = name.substr(prefix.size());
    else if (!head) name = prefix + name;
    if (name.ends_with("LayerNorm.weight")) name.replace(name.size() - 6, 6, "gamma");
    if (name.ends_with("LayerNorm.bias")) name.replace(name.size() - 4, 4, "beta");
    renamed.emplace_back(name, tensor);
  }
  const fs::path out = scratch(std::string("layout_") + GetParam());
  fs::copy_file(folder_ / "config.json", out / "config.json");
  write_tensors(out / "model.safetensors", renamed);
  const at::Tensor whole = output(encoder_, tokens_, lengths_);
  EXPECT_EQ(max_difference(output(load_encoder(out, at::kCPU), tokens_, lengths_), whole), 0.0);
  write_tensors(out / "model.safetensors", rounded);
  const double off = max_difference(output(load_encoder(out, at::kCPU), tokens_, lengths_), whole);
  EXPECT_GT(off, 0.0);
  EXPECT_LE(off, 0.05 * whole.abs().max().item<double>());  // bf16 keeps 8 bits of each weight
}

INSTANTIATE_TEST_SUITE_P(Architectures, GoldenEncoder,
                         testing::Values("bert_classifier", "bert_one_label", "bert_sentence", "distilbert_classifier"),
                         [](const auto& test_info) { return std::string(test_info.param); });

TEST(EncoderHead, a_sentence_encoder_gets_a_head_that_survives_export) {
  const fs::path folder = golden() / "bert_sentence";
  const Encoder headed = with_head(load_encoder(folder, at::kCPU), 3, /*seed=*/5);
  EXPECT_EQ(headed.spec.pooling, Pooling::mean);
  const fs::path out = scratch("headed");
  export_encoder(headed, out, folder);
  const Encoder again = load_encoder(out, at::kCPU);
  EXPECT_EQ(again.spec.pooling, Pooling::mean);
  EXPECT_EQ(again.spec.num_labels(), 3);
  const SafeTensors file = SafeTensors::open_file(folder / "expected.safetensors");
  const at::Tensor tokens = load_long(file, "tokens"), lengths = load_long(file, "lengths");
  // The head on the oracle's sentence embedding.
  const at::Tensor want = linear(to_tensor(file.at("output"), at::kFloat), headed.classifier);
  EXPECT_LE(max_difference(forward_logits(again, tokens, lengths), want), tolerance(want));
}

TEST(EncoderHead, a_head_of_the_right_size_is_kept_and_another_replaced) {
  const Encoder encoder = load_encoder(golden() / "distilbert_classifier", at::kCPU);
  EXPECT_TRUE(with_head(encoder, 3, 1).classifier.weight.is_same(encoder.classifier.weight));
  const Encoder two = with_head(encoder, 2, 1);
  EXPECT_EQ(two.spec.pooling, Pooling::first);
  EXPECT_EQ(two.classifier.weight.size(0), 2);
  EXPECT_EQ(max_difference(two.classifier.weight, with_head(encoder, 2, 1).classifier.weight), 0.0);
  EXPECT_GT(max_difference(two.classifier.weight, with_head(encoder, 2, 2).classifier.weight), 0.0);
}

std::string refusal(const std::string& config) {
  try {
    parse_encoder_spec(config, "config.json");
  } catch (const UserError& e) {
    return e.what();
  }
  return "accepted";
}

std::string bert_with(const std::string& more) {
  return R"({"model_type":"bert","vocab_size":61,"hidden_size":24,"num_hidden_layers":2,"num_attention_heads":3,
             "intermediate_size":40,"architectures":["BertForSequenceClassification"])" +
         more + "}";
}

TEST(EncoderSpec, refuses_by_name_what_is_not_implemented) {
  using testing::HasSubstr;
  EXPECT_EQ(refusal(bert_with("")), "accepted");
  EXPECT_THAT(refusal(R"({"model_type":"mpnet"})"), HasSubstr("mpnet"));
  EXPECT_THAT(refusal(bert_with(R"(,"position_embedding_type":"relative_key")")), HasSubstr("relative_key"));
  EXPECT_THAT(refusal(bert_with(R"(,"is_decoder":true)")), HasSubstr("decoder"));
  EXPECT_THAT(refusal(bert_with(R"(,"hidden_act":"mish")")), HasSubstr("mish"));
  EXPECT_THAT(refusal(bert_with(R"(,"vbon":{"pooling":"max"})")), HasSubstr("max"));
  EXPECT_THAT(refusal(bert_with(R"(,"id2label":{"1":"a"})")), HasSubstr("label 0"));
  EXPECT_THAT(refusal(bert_with(R"(,"hidden_size":25)")), HasSubstr("25"));
  EXPECT_THAT(refusal(bert_with(R"(,"num_hidden_layers":16000000)")), HasSubstr("layers"));
  EXPECT_THAT(refusal(R"({"model_type":"bert"})"), HasSubstr("hidden_size"));
}

TEST(EncoderSpec, labels_come_from_id2label_or_num_labels) {
  EXPECT_EQ(parse_encoder_spec(bert_with(""), "c").label_names, (std::vector<std::string>{"LABEL_0", "LABEL_1"}));
  EXPECT_EQ(parse_encoder_spec(bert_with(R"(,"num_labels":1)"), "c").num_labels(), 1);
  EXPECT_EQ(parse_encoder_spec(bert_with(R"(,"id2label":{"1":"POSITIVE","0":"NEGATIVE"})"), "c").label_names,
            (std::vector<std::string>{"NEGATIVE", "POSITIVE"}));
}

TEST(EncoderWeights, name_what_is_missing_or_has_another_shape) {
  const fs::path out = scratch("wrong");
  const auto failure = [&] {
    try {
      load_encoder(out, at::kCPU);
    } catch (const UserError& e) {
      return std::string(e.what());
    }
    return std::string("loaded");
  };
  const std::string config = read_file(golden() / "bert_classifier/config.json");
  NamedTensors tensors = named_tensors(load_encoder(golden() / "bert_classifier", at::kCPU));
  write_file_atomically(out / "config.json", config);
  const auto pooler =
      std::find_if(tensors.begin(), tensors.end(), [](const auto& t) { return t.first == "bert.pooler.dense.bias"; });
  ASSERT_NE(pooler, tensors.end());
  tensors.erase(pooler);
  write_tensors(out / "model.safetensors", tensors);
  EXPECT_THAT(failure(), testing::HasSubstr("bert.pooler.dense.bias"));
  std::string larger = config;
  larger.replace(larger.find("\"vocab_size\": 61"), 16, "\"vocab_size\": 16000000");
  write_file_atomically(out / "config.json", larger);
  EXPECT_THAT(failure(), testing::AllOf(testing::HasSubstr("word_embeddings"), testing::HasSubstr("16000000")));
}

}  // namespace
}  // namespace vbon
