#include "vbon/model/kv_cache.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/List.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <limits>
#include <map>
#include <optional>

#include "vbon/base/error.hpp"
#include "vbon/model/cpu_kernels.hpp"

namespace vbon {
namespace {

std::size_t at_index(std::int64_t i) { return static_cast<std::size_t>(i); }

at::Tensor long_tensor(const std::vector<std::int64_t>& values, at::Device device) {
  return at::tensor(values, at::TensorOptions(at::kLong)).to(device);
}

// The step's own key and value at the end of each row's suffix.
void append(SuffixCache& cache, std::int64_t layer, const DecodeRows& rows, const at::Tensor& k, const at::Tensor& v) {
  using Indices = c10::List<std::optional<at::Tensor>>;
  const at::Tensor slot = long_tensor(rows.slot, k.device()), end = long_tensor(rows.suffix_length, k.device());
  // Indexing [slot, :, :, end] puts the row first: [n, K, d].
  cache.keys_t[at_index(layer)].index_put_(Indices({slot, std::nullopt, std::nullopt, end}), k);
  cache.values[at_index(layer)].index_put_(Indices({slot, std::nullopt, end}), v);
}

at::Tensor attend_by_tensors(const LmSpec& s, const std::vector<PrefixCache>& prefixes, const SuffixCache& suffix,
                             const DecodeRows& rows, std::int64_t layer, const at::Tensor& q, double scale) {
  const std::int64_t n = q.size(0), group = s.num_heads / s.num_kv_heads;
  const at::Tensor slots = long_tensor(rows.slot, q.device());
  const std::int64_t longest = *std::max_element(rows.suffix_length.begin(), rows.suffix_length.end()) + 1;
  const at::Tensor queries = q.reshape({n, s.num_kv_heads, group, s.head_dim}) * scale;
  const at::Tensor keys = suffix.keys_t[at_index(layer)].index_select(0, slots).narrow(3, 0, longest);  // [n, K, d, r]
  const at::Tensor values =
      suffix.values[at_index(layer)].index_select(0, slots).narrow(2, 0, longest);  // [n, K, r, d]
  const at::Tensor lengths = long_tensor(rows.suffix_length, q.device());
  const at::Tensor beyond = at::arange(longest, lengths.options()).unsqueeze(0) > lengths.unsqueeze(1);  // [n, r]
  const at::Tensor own_scores =
      at::matmul(queries, keys)
          .masked_fill(beyond.unsqueeze(1).unsqueeze(1), -std::numeric_limits<double>::infinity());  // [n, K, G, r]
  std::map<std::int64_t, std::vector<std::int64_t>> by_prompt;
  for (std::int64_t i = 0; i < n; ++i) by_prompt[rows.prefix[at_index(i)]].push_back(i);
  at::Tensor out = at::empty({n, s.num_kv_heads, group, s.head_dim}, q.options());
  for (const auto& [prompt, members] : by_prompt) {
    const PrefixCache& cache = prefixes[at_index(prompt)];
    const at::Tensor index = long_tensor(members, q.device());
    const auto m = static_cast<std::int64_t>(members.size());
    // The prompt's keys serve all its rows in one product: [K, m G, d] x [K, d, P].
    const at::Tensor folded =
        queries.index_select(0, index).transpose(0, 1).reshape({s.num_kv_heads, m * group, s.head_dim});
    const at::Tensor prompt_scores = at::matmul(folded, cache.keys_t[at_index(layer)].narrow(2, 0, cache.length))
                                         .reshape({s.num_kv_heads, m, group, cache.length})
                                         .transpose(0, 1);
    const at::Tensor weights =
        at::softmax(at::cat({prompt_scores, own_scores.index_select(0, index)}, -1), -1);  // [m, K, G, P + r]
    const at::Tensor from_prompt =
        at::matmul(
            weights.narrow(3, 0, cache.length).transpose(0, 1).reshape({s.num_kv_heads, m * group, cache.length}),
            cache.values[at_index(layer)])
            .view({s.num_kv_heads, m, group, s.head_dim})
            .transpose(0, 1);
    const at::Tensor from_own = at::matmul(weights.narrow(3, cache.length, longest), values.index_select(0, index));
    out.index_put_({index}, from_prompt + from_own);
  }
  return out.view({n, s.query_size()});
}

// The row's own key and value [d] of one head, at position `end` of its slot.
void append_head(const float* key, const float* value, std::int64_t d, std::int64_t capacity, std::int64_t end,
                 float* keys_t, float* values) {
  for (std::int64_t j = 0; j < d; ++j) keys_t[j * capacity + end] = key[j];
  std::copy_n(value, d, values + end * d);
}

// Appends and attends, float32 in CPU memory.
at::Tensor attend_by_loop(const LmSpec& s, const std::vector<PrefixCache>& prefixes, SuffixCache& suffix,
                          const DecodeRows& rows, std::int64_t layer, const at::Tensor& q, const at::Tensor& k,
                          const at::Tensor& v, double scale) {
  const auto heads_dense = [&](const at::Tensor& x) { return x.stride(2) == 1 && x.stride(1) == s.head_dim; };
  check(heads_dense(q) && heads_dense(k) && heads_dense(v), "attention: the heads of a row must lie side by side");
  const std::int64_t n = rows.size(), heads = s.num_kv_heads, group = s.num_heads / heads, d = s.head_dim;
  at::Tensor out = at::empty({n, s.query_size()}, q.options());
  const float *queries = q.const_data_ptr<float>(), *new_keys = k.const_data_ptr<float>(),
              *new_values = v.const_data_ptr<float>();
  float* keys = suffix.keys_t[at_index(layer)].mutable_data_ptr<float>();
  float* values = suffix.values[at_index(layer)].mutable_data_ptr<float>();
  float* result = out.mutable_data_ptr<float>();
  at::parallel_for(0, n, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> scratch;
    for (std::int64_t i = begin; i < end; ++i) {
      const PrefixCache& cache = prefixes[at_index(rows.prefix[at_index(i)])];
      const float* prompt_keys = cache.keys_t[at_index(layer)].const_data_ptr<float>();
      const float* prompt_values = cache.values[at_index(layer)].const_data_ptr<float>();
      const std::int64_t own = rows.suffix_length[at_index(i)], stride = kernels::in_lanes(cache.length);
      scratch.resize(at_index(4 * (kernels::in_lanes(cache.length) + kernels::in_lanes(own + 1))));
      for (std::int64_t h = 0; h < heads; ++h) {
        const std::int64_t slab = (rows.slot[at_index(i)] * heads + h) * d * suffix.capacity;
        append_head(new_keys + i * k.stride(0) + h * d, new_values + i * v.stride(0) + h * d, d, suffix.capacity, own,
                    keys + slab, values + slab);
        kernels::attend_row(queries + i * q.stride(0) + h * group * d, group, d, static_cast<float>(scale),
                            {prompt_keys + h * d * stride, prompt_values + h * d * cache.length, cache.length, stride},
                            {keys + slab, values + slab, own + 1, suffix.capacity}, scratch.data(),
                            result + (i * heads + h) * group * d);
      }
    }
  });
  return out;
}

}  // namespace

SuffixCache make_suffix_cache(const CausalLm& model, std::int64_t slots, std::int64_t capacity) {
  const LmSpec& s = model.spec;
  SuffixCache cache;
  cache.capacity = kernels::in_lanes(capacity);
  const auto options = at::TensorOptions(model.dtype()).device(model.device());
  for (std::int64_t layer = 0; layer < s.num_layers; ++layer) {
    // Zeros: the masked tail is multiplied by zero weights, and zero times garbage could be NaN.
    cache.keys_t.push_back(at::zeros({slots, s.num_kv_heads, s.head_dim, cache.capacity}, options));
    cache.values.push_back(at::zeros({slots, s.num_kv_heads, cache.capacity, s.head_dim}, options));
  }
  return cache;
}

std::int64_t suffix_cache_bytes(const LmSpec& s, std::int64_t slots, std::int64_t capacity,
                                std::int64_t element_bytes) {
  return 2 * s.num_layers * slots * s.key_size() * kernels::in_lanes(capacity) * element_bytes;
}

Attend prefill_attention(const LmSpec& spec, std::int64_t batch, std::int64_t length,
                         const std::vector<std::int64_t>& lengths, std::vector<PrefixCache>& caches) {
  caches.assign(at_index(batch), {});
  for (std::int64_t b = 0; b < batch; ++b) caches[at_index(b)].length = lengths[at_index(b)];
  return [&spec, &caches, batch, length, whole = full_attention(spec, batch, length)](
             std::int64_t layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    for (std::int64_t b = 0; b < batch; ++b) {
      PrefixCache& cache = caches[at_index(b)];
      at::Tensor keys_t = at::zeros({k.size(1), k.size(2), kernels::in_lanes(cache.length)}, k.options());
      keys_t.narrow(2, 0, cache.length).copy_(k.narrow(0, b * length, cache.length).permute({1, 2, 0}));
      cache.keys_t.push_back(std::move(keys_t));
      cache.values.push_back(v.narrow(0, b * length, cache.length).transpose(0, 1).contiguous());
    }
    return whole(layer, q, k, v);
  };
}

Attend decode_attention(const LmSpec& spec, const std::vector<PrefixCache>& prefixes, SuffixCache& suffix,
                        const DecodeRows& rows, bool portable) {
  return [&, portable](std::int64_t layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    const double scale = attention_scale(spec, layer);
    if (!portable && q.device().is_cpu() && q.scalar_type() == at::kFloat)
      return attend_by_loop(spec, prefixes, suffix, rows, layer, q, k, v, scale);
    append(suffix, layer, rows, k, v);
    return attend_by_tensors(spec, prefixes, suffix, rows, layer, q, scale);
  };
}

}  // namespace vbon
