// The last product of a language model with everything that training wants from it, in one pass over the vocabulary:
// log-probability of the drawn token, exact KL to the reference's distribution and entropy, at a sampling temperature,
// with their analytic gradient. Passes over the vocabulary are what an update costs, so logits are made once (and, for
// gradients, kept); softmax matrices are never written out.
//
// Shapes: n rows (response positions), D hidden size, V vocabulary.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace vbon {

struct TokenStatistics {
  at::Tensor logp;      // [n] log pi(token), differentiable in hidden and head
  at::Tensor kl;        // [n] KL(pi || pi_ref) of the row's distribution; undefined without reference
  at::Tensor entropy;   // [n]
  at::Tensor logp_ref;  // [n] log pi_ref(token), no gradient; undefined without reference
};

// hidden [n, D] (after the final norm), head [V, D], tokens int64 [n]. reference_logits [n, V] (before temperature,
// float32) may be undefined. Results are float32. All at softmax(logits / temperature).
TokenStatistics token_statistics(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& tokens,
                                 double temperature, const at::Tensor& reference_logits = {});

// The same by plain tensor operations with autograd's own gradients: the oracle, and the way on other devices and
// dtypes.
TokenStatistics token_statistics_by_tensors(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& tokens,
                                            double temperature, const at::Tensor& reference_logits = {});

}  // namespace vbon
