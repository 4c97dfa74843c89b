#include "train/plan_shapes.hpp"

#include <algorithm>

#include "vbon/base/error.hpp"
#include "vbon/model/encoder_weights.hpp"
#include "vbon/train/trainable.hpp"

namespace vbon {

ModelSizes model_sizes(const Settings& settings, const LmSpec& spec) {
  const std::int64_t last = settings.train.layers.last;
  ModelSizes sizes;
  sizes.frozen_blocks = first_trained_block(spec, settings.train.layers);
  sizes.trained_blocks = spec.num_layers - sizes.frozen_blocks;
  sizes.element_bytes = settings.model.dtype == Dtype::bf16 ? 2 : 4;
  sizes.parameters = count_parameters(spec);
  LmSpec shorter = spec;
  --shorter.num_layers;
  sizes.block = sizes.parameters - count_parameters(shorter);
  sizes.head_products = spec.vocab_size * spec.hidden_size;
  sizes.head_trained = last == 0 || !spec.tied_embeddings;
  const std::int64_t norm = spec.norm == NormKind::rms ? spec.hidden_size : 2 * spec.hidden_size;
  const std::int64_t untied_head = spec.tied_embeddings ? 0 : sizes.head_products;
  sizes.trained = last == 0 ? sizes.parameters : last * sizes.block + norm + untied_head;
  const bool online = !is_offline(settings.train.method);
  const Baseline baseline = settings.ppo.baseline;
  if (online && (baseline == Baseline::critic_head || baseline == Baseline::critic_model))
    sizes.critic = spec.hidden_size + 1;
  if (online && baseline == Baseline::critic_model) sizes.critic += sizes.trained - untied_head;
  const std::int64_t mlp_in = spec.gated_mlp ? 2 * spec.intermediate_size : spec.intermediate_size;
  sizes.block_products =
      spec.hidden_size * (2 * spec.query_size() + 2 * spec.key_size() + mlp_in + spec.intermediate_size);
  return sizes;
}

std::int64_t saved_numbers(const LmSpec& s) {
  const std::int64_t d = s.hidden_size, f = s.intermediate_size, q = s.query_size(), k = s.key_size();
  // Norms: input and output; RMS also what the weight multiplies. Parallel blocks have one input for both.
  std::int64_t saved = (s.norm == NormKind::rms ? 6 : 4) * d - (s.parallel_residual ? d : 0);
  // Attention keeps q, k, v and its result. Without rotation these are views of one product, as v is always; heads that
  // share keys get copies of keys and values.
  if (s.num_kv_heads < s.num_heads) saved += 4 * q;
  else saved += (q + 2 * k) + q + (s.rope.dims > 0 ? q + k : 0);
  return saved + (s.gated_mlp ? 4 : 2) * f;
}

std::int64_t working_numbers(const LmSpec& s) {
  const std::int64_t attention = 4 * s.query_size() + 2 * s.key_size();
  const std::int64_t mlp = (s.gated_mlp ? 4 : 2) * s.intermediate_size;
  return 3 * s.hidden_size + std::max(attention, mlp);
}

std::int64_t encoder_parameters(const EncoderSpec& spec) {
  std::int64_t total = 0;
  for (const EncoderEntry& entry : weight_table(spec)) {
    std::int64_t size = 1;
    for (const std::int64_t n : entry.shape) size *= n;
    total += size;
  }
  return total;
}

std::int64_t padded_tokens(const RewardConfig& config, std::int64_t max_positions, std::int64_t tokens) {
  constexpr std::int64_t kStep = 16;  // of the scorer's row lengths
  return std::min({config.max_length, max_positions, ceil_div(tokens, kStep) * kStep});
}

bool evaluates(const Settings& settings) { return settings.eval.every > 0; }

std::int64_t kept_trunk_bytes(const Settings& settings, const PlanInputs& inputs) {
  if (!settings.pool.keep_trunk || model_sizes(settings, inputs.model).frozen_blocks == 0) return 0;
  const double a_prompt =
      inputs.prompt_tokens + static_cast<double>(settings.pool.samples * (settings.sampling.max_new_tokens - 1));
  return static_cast<std::int64_t>(static_cast<double>(inputs.num_prompts) * a_prompt) * inputs.model.hidden_size *
         static_cast<std::int64_t>(sizeof(float));
}

}  // namespace vbon
