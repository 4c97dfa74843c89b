// The sampler: many responses to a chunk of prompts at once. Each prompt runs once for all its samples; slots of a
// static cache decode one token a step and are refilled as sequences end; every draw is keyed by (prompt id, sample,
// position), so what is drawn depends on the chunk and the stream alone, never on ranks, order or restarts.
//
// Log-probabilities are of softmax(logits / temperature) over the whole vocabulary: the distribution drawn from,
// exactly.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "vbon/base/rng.hpp"
#include "vbon/generate/sampling.hpp"
#include "vbon/model/causal_lm.hpp"
#include "vbon/model/packed_weights.hpp"

namespace vbon {

struct PromptTokens {
  std::int64_t id = 0;                   // keys the draws
  std::span<const std::int32_t> tokens;  // at least one
};

struct Completion {
  std::int64_t prompt = 0;  // index into the request's prompts
  std::int32_t sample = 0;
  std::vector<std::int32_t> tokens;  // incl. the end token if it was drawn
  std::vector<float> logp;           // of each token
  bool finished = false;             // ended by itself; else cut at max_new_tokens
  at::Tensor trunk;                  // [prompt + response - 1, D] rows entering layer `keep_layer`, if asked for
};

struct GenerateRequest {
  std::vector<PromptTokens> prompts;
  std::int32_t first_sample = 0;  // samples [first_sample, first_sample + num_samples) of every prompt
  std::int32_t num_samples = 1;
};

// What a caller who samples again and again from one model keeps between calls: packed weights. Those that require
// gradients are packed anew at each call, the others once.
class SamplerWeights {
 public:
  // nullptr where packing does not pay: few slots, a device, a CPU without AVX-512.
  PackedWeights* prepared(const CausalLm& model, std::int64_t slots);

 private:
  std::unique_ptr<PackedWeights> packed_;
};

struct GenerateOptions {
  SamplingConfig sampling;
  std::vector<std::int32_t> eos_ids;  // tokens that end a response; may be empty
  RandomStream stream;
  std::int64_t keep_layer = -1;       // keep the rows entering this block (for a learner of the layers above); -1: no
  SamplerWeights* weights = nullptr;  // kept by the caller between calls; nullptr: packed for this call alone
  bool portable = false;              // tensor operations only, as on other devices (for tests)
};

struct GenerateStatistics {
  std::int64_t prompt_tokens = 0, new_tokens = 0, steps = 0;
  double prefill_s = 0, decode_s = 0, head_s = 0, draw_s = 0;  // decode_s: blocks; head_s: last product
};

// Completions in the order prompt-major, sample-minor. Throws UserError if a prompt is empty or does not fit the model.
std::vector<Completion> generate(const CausalLm& model, const GenerateRequest& request, const GenerateOptions& options,
                                 GenerateStatistics* statistics = nullptr);

}  // namespace vbon
