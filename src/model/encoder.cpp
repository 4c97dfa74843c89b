#include "vbon/model/encoder.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/tanh.h>

#include "vbon/base/error.hpp"

namespace vbon {
namespace {

at::Tensor attention(const EncoderSpec& s, const EncoderBlock& block, const at::Tensor& x, const at::Tensor& mask) {
  const std::int64_t batch = x.size(0), length = x.size(1);
  const at::Tensor qkv = linear(x, block.qkv).view({batch, length, 3, s.num_heads, s.head_dim()});
  const auto heads_first = [&](std::int64_t part) { return qkv.select(2, part).transpose(1, 2); };  // [B, H, T, d]
  const at::Tensor mixed = at::scaled_dot_product_attention(heads_first(0), heads_first(1), heads_first(2), mask);
  return linear(mixed.transpose(1, 2).reshape({batch, length, s.hidden_size}), block.attention_out);
}

}  // namespace

at::Tensor token_mask(const at::Tensor& lengths, std::int64_t length) {
  const at::Tensor places = at::arange(length, at::TensorOptions(at::kLong).device(lengths.device()));
  return (places.unsqueeze(0) < lengths.unsqueeze(1)).view({lengths.size(0), 1, 1, length});
}

at::Tensor embed(const Encoder& encoder, const at::Tensor& tokens) {
  const std::int64_t length = tokens.size(1);
  check(length <= encoder.spec.max_positions, "embed: a row longer than the encoder's positions");
  at::Tensor x = at::embedding(encoder.token_embedding, tokens);
  if (encoder.type_embedding.defined()) x = x + encoder.type_embedding.select(0, 0);
  x = x + encoder.position_embedding.narrow(0, 0, length);
  return normalise(x, encoder.embedding_norm, NormKind::layer, encoder.spec.norm_eps);
}

at::Tensor run_blocks(const Encoder& encoder, at::Tensor x, const at::Tensor& mask, std::int64_t first,
                      std::int64_t last) {
  check(0 <= first && first <= last && last <= encoder.num_layers(), "run_blocks: layers out of range");
  const EncoderSpec& s = encoder.spec;
  for (std::int64_t layer = first; layer < last; ++layer) {
    const EncoderBlock& block = encoder.blocks[static_cast<std::size_t>(layer)];
    x = normalise(x + attention(s, block, x, mask), block.attention_norm, NormKind::layer, s.norm_eps);
    const at::Tensor inner = activate(linear(x, block.mlp_in), s.activation);
    x = normalise(x + linear(inner, block.mlp_out), block.mlp_norm, NormKind::layer, s.norm_eps);
  }
  return x;
}

at::Tensor mean_over_tokens(const at::Tensor& hidden, const at::Tensor& mask) {
  const at::Tensor real = mask.view({hidden.size(0), hidden.size(1), 1}).to(at::kFloat);
  return ((hidden.to(at::kFloat) * real).sum(1) / real.sum(1)).to(hidden.scalar_type());
}

at::Tensor classify(const Encoder& encoder, const at::Tensor& hidden, const at::Tensor& mask) {
  check(encoder.spec.pooling != Pooling::none, "classify: an encoder without a head");
  if (encoder.spec.pooling == Pooling::mean) return linear(mean_over_tokens(hidden, mask), encoder.classifier);
  const at::Tensor dense = linear(hidden.select(1, 0), encoder.pooler);
  return linear(encoder.spec.model_type == "bert" ? at::tanh(dense) : at::relu(dense), encoder.classifier);
}

at::Tensor forward_hidden(const Encoder& encoder, const at::Tensor& tokens, const at::Tensor& lengths) {
  return run_blocks(encoder, embed(encoder, tokens), token_mask(lengths, tokens.size(1)), 0, encoder.num_layers());
}

at::Tensor forward_logits(const Encoder& encoder, const at::Tensor& tokens, const at::Tensor& lengths) {
  return classify(encoder, forward_hidden(encoder, tokens, lengths), token_mask(lengths, tokens.size(1)));
}

}  // namespace vbon
