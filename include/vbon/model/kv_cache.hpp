// Keys and values that decoding reads again. A prompt's own are computed once and shared by all its samples (prefix);
// each slot keeps those of the tokens it has drawn (suffix). Keys are stored transposed: scores of consecutive
// positions then lie side by side. Static memory: nothing grows while decoding.
//
// Shapes: K key-value heads, d head dimension, P prompt length, S slots, R capacity of a slot. One tensor a layer.
// P of keys and R are rounded up to whole lanes of the CPU loop (kernels::kLane), the rest zeros.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "vbon/model/causal_lm.hpp"

namespace vbon {

struct PrefixCache {
  std::int64_t length = 0;
  std::vector<at::Tensor> keys_t;  // [K, d, P rounded up]
  std::vector<at::Tensor> values;  // [K, P, d]
};

struct SuffixCache {
  std::int64_t capacity = 0;
  std::vector<at::Tensor> keys_t;  // [S, K, d, R]
  std::vector<at::Tensor> values;  // [S, K, R, d]
};

SuffixCache make_suffix_cache(const CausalLm& model, std::int64_t slots, std::int64_t capacity);
std::int64_t suffix_cache_bytes(const LmSpec& spec, std::int64_t slots, std::int64_t capacity,
                                std::int64_t element_bytes);

// The rows of one decoding step: row i continues slot[i], whose prompt is prefix[i] and which holds suffix_length[i]
// tokens already; the step appends its own key and value there.
struct DecodeRows {
  std::vector<std::int64_t> slot, prefix, suffix_length;
  std::int64_t size() const { return static_cast<std::int64_t>(slot.size()); }
};

// Full causal attention over right-padded prompts [B, T], which also fills one PrefixCache a prompt (of its own
// length).
Attend prefill_attention(const LmSpec& spec, std::int64_t batch, std::int64_t length,
                         const std::vector<std::int64_t>& lengths, std::vector<PrefixCache>& caches);

// Attention of single-token rows over prefix and suffix. On CPU in float32 by our own loop, else by tensor operations;
// `portable` forces the latter (the two are each other's test).
Attend decode_attention(const LmSpec& spec, const std::vector<PrefixCache>& prefixes, SuffixCache& suffix,
                        const DecodeRows& rows, bool portable = false);

}  // namespace vbon
