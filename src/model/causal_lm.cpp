#include "vbon/model/causal_lm.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>

#include "vbon/base/error.hpp"
#include "vbon/model/recompute.hpp"

namespace vbon {
namespace {

at::Tensor attention(const CausalLm& model, const Block& block, std::int64_t layer, const at::Tensor& x,
                     const RopeRows& rope, const Attend& attend, const Multiply& multiply) {
  const LmSpec& s = model.spec;
  const std::int64_t n = x.size(0);
  const at::Tensor qkv = multiply(x, block.qkv);             // [n, (H + 2K) d]
  const std::int64_t turned = s.num_heads + s.num_kv_heads;  // queries and keys, in one pass
  const at::Tensor qk =
      apply_rope(qkv.narrow(1, 0, turned * s.head_dim).view({n, turned, s.head_dim}), rope, model.rope.dims);
  const at::Tensor v = qkv.narrow(1, turned * s.head_dim, s.key_size()).view({n, s.num_kv_heads, s.head_dim});
  const at::Tensor mixed = attend(layer, qk.narrow(1, 0, s.num_heads), qk.narrow(1, s.num_heads, s.num_kv_heads), v);
  return multiply(mixed, block.attention_out);
}

at::Tensor mlp(const CausalLm& model, const Block& block, const at::Tensor& x, const Multiply& multiply) {
  const at::Tensor inner = multiply(x, block.mlp_in);
  return multiply(model.spec.gated_mlp ? gated(inner, model.spec.activation) : activate(inner, model.spec.activation),
                  block.mlp_out);
}

at::Tensor run_block(const CausalLm& model, std::int64_t layer, const at::Tensor& x, const RopeRows& rope,
                     const Attend& attend, const Multiply& multiply) {
  const LmSpec& s = model.spec;
  const Block& block = model.blocks[static_cast<std::size_t>(layer)];
  const at::Tensor normed = normalise(x, block.attention_norm, s.norm, s.norm_eps);
  const at::Tensor mixed = attention(model, block, layer, normed, rope, attend, multiply);
  const auto after = [&](const at::Tensor& y) {
    return mlp(model, block, normalise(y, block.mlp_norm, s.norm, s.norm_eps), multiply);
  };
  if (s.parallel_residual) return x + mixed + after(x);
  const at::Tensor y = x + mixed;
  return y + after(y);
}

}  // namespace

double attention_scale(const LmSpec& spec, std::int64_t layer) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(spec.head_dim));
  return spec.scale_by_layer ? scale / static_cast<double>(layer + 1) : scale;
}

at::Tensor embed(const CausalLm& model, const at::Tensor& tokens, const at::Tensor& positions) {
  at::Tensor x = at::embedding(model.token_embedding, tokens);
  if (model.position_embedding.defined()) x = x + at::embedding(model.position_embedding, positions);
  return x;
}

at::Tensor run_blocks(const CausalLm& model, at::Tensor x, const at::Tensor& positions, std::int64_t first,
                      std::int64_t last, const Attend& attend, const Multiply& multiply) {
  check(0 <= first && first <= last && last <= model.num_layers(), "run_blocks: layers out of range");
  const RopeRows rope = rope_rows(model.rope, positions, x.scalar_type());
  for (std::int64_t layer = first; layer < last; ++layer) {
    if (model.recompute)
      x = recomputed([&model, layer, rope, attend,
                      multiply](const at::Tensor& in) { return run_block(model, layer, in, rope, attend, multiply); },
                     x);
    else x = run_block(model, layer, x, rope, attend, multiply);
  }
  return x;
}

at::Tensor final_hidden(const CausalLm& model, const at::Tensor& x) {
  return normalise(x, model.final_norm, model.spec.norm, model.spec.norm_eps);
}

at::Tensor head_logits(const CausalLm& model, const at::Tensor& hidden, const Multiply& multiply) {
  return multiply(hidden, {model.head, {}});
}

Attend full_attention(const LmSpec& spec, std::int64_t batch, std::int64_t length) {
  return [&spec, batch, length](std::int64_t layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    const std::int64_t group = spec.num_heads / spec.num_kv_heads;
    const auto heads_first = [&](const at::Tensor& x, std::int64_t heads) {
      return x.view({batch, length, heads, spec.head_dim}).transpose(1, 2);  // [B, heads, T, d]
    };
    const auto repeated = [&](const at::Tensor& x) {  // each key-value head for its group of query heads
      if (group == 1) return x;
      return x.unsqueeze(2)
          .expand({batch, spec.num_kv_heads, group, length, spec.head_dim})
          .reshape({batch, spec.num_heads, length, spec.head_dim});
    };
    const at::Tensor mixed =
        at::scaled_dot_product_attention(heads_first(q, spec.num_heads), repeated(heads_first(k, spec.num_kv_heads)),
                                         repeated(heads_first(v, spec.num_kv_heads)), /*attn_mask=*/{},
                                         /*dropout_p=*/0.0, /*is_causal=*/true, attention_scale(spec, layer));
    return mixed.transpose(1, 2).reshape({batch * length, spec.query_size()});
  };
}

RaggedRows ragged_rows(std::span<const std::vector<std::int64_t>> sequences, at::Device device) {
  constexpr std::int64_t kNowhere = -1;
  RaggedRows rows{.count = std::ssize(sequences)};
  std::int64_t num_rows = 0;
  for (const auto& sequence : sequences) {
    check(!sequence.empty(), "ragged_rows: an empty sequence");
    rows.longest = std::max(rows.longest, std::ssize(sequence));
    num_rows = std::max(num_rows, 1 + *std::max_element(sequence.begin(), sequence.end()));
  }
  const auto size = static_cast<std::size_t>(num_rows);
  std::vector<std::int64_t> positions(size, kNowhere), places(size, kNowhere), row_at;
  for (const auto& sequence : sequences) {
    const std::int64_t corner = std::ssize(row_at);
    for (std::int64_t t = 0; t < rows.longest; ++t) {
      const auto row =
          static_cast<std::size_t>(sequence[static_cast<std::size_t>(std::min(t, std::ssize(sequence) - 1))]);
      row_at.push_back(static_cast<std::int64_t>(row));
      if (t >= std::ssize(sequence)) continue;
      check(positions[row] == kNowhere || positions[row] == t, "ragged_rows: a row at two positions");
      positions[row] = t;
      places[row] = corner + t;
    }
  }
  check(std::find(positions.begin(), positions.end(), kNowhere) == positions.end(),
        "ragged_rows: a row of no sequence");
  const auto on_device = [&](const std::vector<std::int64_t>& values) {
    return at::tensor(values, at::kLong).to(device);
  };
  rows.positions = on_device(positions);
  rows.place = on_device(places);
  rows.row = on_device(row_at);
  return rows;
}

Attend ragged_attention(const LmSpec& spec, const RaggedRows& rows) {
  return [whole = full_attention(spec, rows.count, rows.longest), row = rows.row, place = rows.place](
             std::int64_t layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    return gather_rows(whole(layer, gather_rows(q, row), gather_rows(k, row), gather_rows(v, row)), place);
  };
}

at::Tensor row_positions(std::int64_t batch, std::int64_t length, at::Device device) {
  return at::arange(length, at::TensorOptions(at::kLong).device(device)).repeat({batch});
}

at::Tensor forward_hidden(const CausalLm& model, const at::Tensor& tokens) {
  const std::int64_t batch = tokens.size(0), length = tokens.size(1);
  const at::Tensor positions = row_positions(batch, length, tokens.device());
  at::Tensor x = embed(model, tokens.reshape({batch * length}), positions);
  x = run_blocks(model, x, positions, 0, model.num_layers(), full_attention(model.spec, batch, length));
  return final_hidden(model, x).view({batch, length, -1});
}

at::Tensor forward_logits(const CausalLm& model, const at::Tensor& tokens) {
  return head_logits(model, forward_hidden(model, tokens));
}

}  // namespace vbon
