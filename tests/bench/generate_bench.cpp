// Sampling throughput of the engine on one model folder, and what its matrix products alone take: one JSON line a case.
//
//   generate_bench MODEL THREADS SEQUENCES SAMPLES_PER_PROMPT PROMPT_TOKENS NEW_TOKENS REPEATS
//
// Prompts are keyed random tokens; no end token, so every sequence has the full length.
#include <ATen/Parallel.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "vbon/generate/engine.hpp"
#include "vbon/model/hf_weights.hpp"

namespace {

using namespace vbon;
using Clock = std::chrono::steady_clock;

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Seconds of one decoding step's matrix products at `rows` rows, in the order and layout that the engine runs them.
double products_s(const CausalLm& model, std::int64_t rows, int repeats, SamplerWeights& weights) {
  const c10::InferenceMode guard;
  const LmSpec& s = model.spec;
  const at::Tensor x = at::randn({rows, s.hidden_size}), wide = at::randn({rows, s.intermediate_size}),
                   mixed = at::randn({rows, s.query_size()});
  PackedWeights* packed = weights.prepared(model, rows);
  const auto multiply = [&](const at::Tensor& input, const Linear& layer) {
    return packed != nullptr ? packed->multiply(input, layer) : linear(input, layer);
  };
  std::vector<double> seconds;
  for (int i = 0; i < repeats + 1; ++i) {
    const auto start = Clock::now();
    for (const Block& block : model.blocks) {
      multiply(x, block.qkv);
      multiply(mixed, block.attention_out);
      multiply(x, block.mlp_in);
      multiply(wide, block.mlp_out);
    }
    head_logits(model, x, multiply);
    if (i > 0) seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  return median(seconds);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 8) {
    fmt::print(stderr, "usage: generate_bench MODEL THREADS SEQUENCES SAMPLES_PER_PROMPT PROMPT_TOKENS NEW_TOKENS REPEATS\n");
    return 2;
  }
  const auto number = [&](int i) { return static_cast<std::int64_t>(std::atoll(argv[i])); };
  at::set_num_threads(static_cast<int>(number(2)));
  const std::int64_t sequences = number(3), per_prompt = number(4), prompt_tokens = number(5), new_tokens = number(6);
  const int repeats = static_cast<int>(number(7));
  const CausalLm model = load_causal_lm(argv[1], at::kCPU);
  const RandomStream random(1, Purpose::sample);
  std::vector<std::vector<std::int32_t>> prompts(static_cast<std::size_t>(sequences / per_prompt));
  GenerateRequest request;
  for (std::size_t p = 0; p < prompts.size(); ++p) {
    for (std::int64_t t = 0; t < prompt_tokens; ++t)
      prompts[p].push_back(static_cast<std::int32_t>(random.below(model.spec.vocab_size, static_cast<std::int64_t>(p), 0, static_cast<std::int32_t>(t))));
    request.prompts.push_back({static_cast<std::int64_t>(p), prompts[p]});
  }
  request.num_samples = static_cast<std::int32_t>(per_prompt);
  SamplerWeights weights;
  GenerateOptions options{.stream = random, .weights = &weights};
  options.sampling.temperature = 0.7;
  options.sampling.max_new_tokens = new_tokens;
  options.sampling.slots = sequences;
  std::vector<double> seconds;
  GenerateStatistics stats;
  for (int i = 0; i < repeats + 1; ++i) {
    stats = {};
    const auto start = Clock::now();
    generate(model, request, options, &stats);
    if (i > 0) seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  const double total = median(seconds), one = products_s(model, sequences, 10, weights);
  fmt::print(
      "{{\"sequences\": {}, \"per_prompt\": {}, \"prompt_tokens\": {}, \"new_tokens\": {}, \"threads\": {}, \"median_s\": {:.4f}, "
      "\"min_s\": {:.4f}, \"max_s\": {:.4f}, \"tokens_per_s\": {:.1f}, \"products_step_s\": {:.5f}, "
      "\"products_tokens_per_s\": {:.1f}, \"prefill_s\": {:.3f}, \"decode_s\": {:.3f}, \"head_s\": {:.3f}, \"draw_s\": {:.3f}}}\n",
      sequences, per_prompt, prompt_tokens, new_tokens, at::get_num_threads(), total,
      *std::min_element(seconds.begin(), seconds.end()), *std::max_element(seconds.begin(), seconds.end()),
      static_cast<double>(stats.new_tokens) / total, one, static_cast<double>(sequences) / one, stats.prefill_s,
      stats.decode_s, stats.head_s, stats.draw_s);
  return 0;
}
