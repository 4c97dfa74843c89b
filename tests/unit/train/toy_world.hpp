// A small world for tests of what a learner does: prompts of different lengths, responses that ended at once, in the
// middle, at the last position or were cut, a policy that has moved away from its reference, and the per-token figures
// of a sequence by their definitions (one whole forward a sequence, the softmax in double).
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "unit/model/toy_lm.hpp"
#include "vbon/store/rollouts.hpp"
#include "vbon/store/samples.hpp"
#include "vbon/train/sequences.hpp"
#include "vbon/train/trainable.hpp"

namespace vbon::test {

inline std::size_t at_index(std::int64_t i) { return static_cast<std::size_t>(i); }

constexpr std::int64_t kToyPrompts = 3, kToySamples = 3, kToyTokens = 6;  // P, K, T

inline PromptRows toy_prompts() {
  PromptRows rows;
  rows.add(11, "a", std::vector<std::int32_t>{4, 1, 7, 2});
  rows.add(5, "b", std::vector<std::int32_t>{9});
  rows.add(8, "c", std::vector<std::int32_t>{3, 3, 10, 12, 6, 5, 2});
  return rows;
}

// [P K] responses, 0 ends one. The last of each length is either the end or a cut.
inline RolloutBatch toy_rollouts(const PromptRows& prompts) {
  const std::vector<std::vector<std::int32_t>> responses = {{0},
                                                            {5, 2, 0},
                                                            {7, 7, 1, 3, 2, 9},  // ended at once, in the middle, cut
                                                            {1, 2, 3, 4, 5, 0},
                                                            {12, 0},
                                                            {11, 10, 9, 8, 7, 6},  // ended at the last position
                                                            {6, 6, 6, 0},
                                                            {2, 0},
                                                            {3, 8, 8, 1, 0}};
  RolloutBatch batch;
  batch.max_new_tokens = kToyTokens;
  for (std::size_t i = 0; i < responses.size(); ++i) {
    const auto& r = responses[i];
    batch.prompt_id.push_back(prompts.id[i / kToySamples]);
    batch.sample.push_back(static_cast<std::int32_t>(i % kToySamples));
    batch.length.push_back(static_cast<std::int32_t>(r.size()));
    batch.finished.push_back(r.back() == 0 ? 1 : 0);
    for (std::size_t t = 0; t < kToyTokens; ++t) batch.tokens.push_back(t < r.size() ? r[t] : -1);
  }
  batch.weights_version.assign(responses.size(), 0);
  batch.attempt.assign(responses.size(), 1);
  batch.source.assign(responses.size(), 0);
  return batch;
}

inline Sequence sequence_of(const PromptRows& prompts, const RolloutBatch& batch, std::size_t i) {
  return {prompts.tokens_of(static_cast<std::int64_t>(i) / kToySamples),
          std::span(batch.tokens).subspan(i * kToyTokens, static_cast<std::size_t>(batch.length[i]))};
}

// Moves every trained tensor away from the reference's.
inline void disturb_all(const std::vector<NamedParameter>& parameters, double deviation, std::uint64_t seed) {
  for (const NamedParameter& p : parameters) disturb(p.tensor->detach(), deviation, ++seed);
}

// Of the tokens of one response, [t] double; all but logp_ref differentiable in the policy's weights.
struct TokensByDefinition {
  at::Tensor logp, logp_ref, kl, entropy;
  at::Tensor hidden;  // [t, D] float32, of the rows that predict them
};

inline at::Tensor rows_that_predict(const CausalLm& model, const Sequence& s) {
  std::vector<std::int64_t> ids(s.prompt.begin(), s.prompt.end());
  ids.insert(ids.end(), s.response.begin(), s.response.end());
  const at::Tensor hidden = forward_hidden(model, at::tensor(ids, at::kLong).unsqueeze(0))[0];
  return hidden.narrow(0, std::ssize(s.prompt) - 1, std::ssize(s.response));
}

inline TokensByDefinition tokens_by_definition(const CausalLm& policy, const CausalLm& reference, const Sequence& s,
                                               double temperature) {
  TokensByDefinition out;
  out.hidden = rows_that_predict(policy, s);
  const std::vector<std::int64_t> ids(s.response.begin(), s.response.end());
  const at::Tensor drawn = at::tensor(ids, at::kLong).unsqueeze(1);
  const at::Tensor log_p = at::log_softmax(out.hidden.matmul(policy.head.t()).to(at::kDouble) / temperature, -1);
  const at::Tensor log_q = at::log_softmax(
      rows_that_predict(reference, s).matmul(reference.head.t()).detach().to(at::kDouble) / temperature, -1);
  out.logp = log_p.gather(1, drawn).squeeze(1);
  out.logp_ref = log_q.gather(1, drawn).squeeze(1);
  out.kl = (log_p.exp() * (log_p - log_q)).sum(-1);
  out.entropy = -(log_p.exp() * log_p).sum(-1);
  return out;
}

inline std::vector<double> numbers(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.detach().to(at::kDouble).contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

// |a - b| / |b|
inline double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.detach().to(at::kDouble) - b.detach().to(at::kDouble)).norm().item<double>() /
         b.detach().to(at::kDouble).norm().item<double>();
}

}  // namespace vbon::test
