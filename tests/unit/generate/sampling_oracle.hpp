// The sampler's oracle: one sequence at a time, the learner's whole forward over prompt and response for every token,
// the softmax and its inverse CDF in double, straight from the definition of a keyed draw.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "vbon/base/rng.hpp"
#include "vbon/generate/engine.hpp"
#include "vbon/model/causal_lm.hpp"

namespace vbon::test {

// Token ids of prompt and response as a batch of one, [1, n].
inline at::Tensor whole_sequence(std::span<const std::int32_t> prompt, std::span<const std::int32_t> response) {
  std::vector<std::int64_t> ids(prompt.begin(), prompt.end());
  ids.insert(ids.end(), response.begin(), response.end());
  return at::tensor(ids, at::kLong).unsqueeze(0);
}

inline std::vector<double> next_logits(const CausalLm& model, const at::Tensor& sequence) {
  const at::NoGradGuard no_grad;
  const at::Tensor last = forward_logits(model, sequence)[0][sequence.size(1) - 1].to(at::kDouble).contiguous();
  return {last.const_data_ptr<double>(), last.const_data_ptr<double>() + last.numel()};
}

inline std::vector<double> softmax(std::vector<double> z, double temperature) {
  const double top = *std::max_element(z.begin(), z.end());
  double sum = 0;
  for (double& v : z) sum += v = std::exp((v - top) / temperature);
  for (double& v : z) v /= sum;
  return z;
}

// Probabilities after top_k, then top_p of what is left; zero where not allowed.
inline std::vector<double> truncated(std::vector<double> p, std::int64_t top_k, double top_p) {
  std::vector<double> sorted = p;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  const std::size_t kept = top_k > 0 ? std::min<std::size_t>(static_cast<std::size_t>(top_k), p.size()) : p.size();
  double of_kept = 0;
  for (std::size_t i = 0; i < kept; ++i) of_kept += sorted[i];
  double lowest = sorted[0], total = sorted[0];  // of the allowed
  for (std::size_t i = 1; i < kept && total < top_p * of_kept; ++i) total += lowest = sorted[i];
  for (double& v : p) v = v < lowest ? 0 : v / total;
  return p;
}

struct OracleToken {
  std::int32_t token = 0;
  double logp = 0;
  double margin = 0;  // distance of the uniform number from the nearest end of the token's interval
};

inline OracleToken inverse_cdf(const std::vector<double>& p, double uniform) {
  double below = 0;
  for (std::size_t v = 0; v < p.size(); ++v) {
    if (p[v] > 0 && uniform < below + p[v])
      return {static_cast<std::int32_t>(v), std::log(p[v]), std::min(uniform - below, below + p[v] - uniform)};
    below += p[v];
  }
  return {-1, 0, 0};
}

// One response by the definition. `margin` becomes the smallest of its draws.
inline Completion sampled_by_definition(const CausalLm& model, const PromptTokens& prompt, std::int32_t sample,
                                        const GenerateOptions& options, double& margin) {
  Completion c{.sample = sample};
  while (!c.finished && static_cast<std::int64_t>(c.tokens.size()) < options.sampling.max_new_tokens) {
    const auto z = next_logits(model, whole_sequence(prompt.tokens, c.tokens));
    const auto position = static_cast<std::int32_t>(c.tokens.size());
    const OracleToken next =
        inverse_cdf(softmax(z, options.sampling.temperature), options.stream.uniform(prompt.id, sample, position));
    margin = std::min(margin, next.margin);
    c.tokens.push_back(next.token);
    c.logp.push_back(static_cast<float>(next.logp));
    c.finished = std::count(options.eos_ids.begin(), options.eos_ids.end(), next.token) > 0;
  }
  return c;
}

}  // namespace vbon::test
