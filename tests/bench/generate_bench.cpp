// Sampling throughput of the engine on one model folder, and what its matrix products alone take: one JSON line a case.
//
//   generate_bench MODEL THREADS PROMPTS SAMPLES_PER_PROMPT NEW_TOKENS REPEATS
//
// PROMPTS is a file of token numbers, one prompt a line. No end token, so every sequence has the full length.
// compare_generate.py runs it beside `transformers`.
#include <ATen/Parallel.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

#include "median.hpp"
#include "vbon/base/error.hpp"
#include "vbon/generate/engine.hpp"
#include "vbon/model/hf_weights.hpp"

namespace {

using namespace vbon;
using Clock = std::chrono::steady_clock;

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

// One prompt a line: token numbers with spaces between.
std::vector<std::vector<std::int32_t>> read_prompts(const char* path) {
  std::ifstream file(path);
  require(file.good(), "cannot read {}", path);
  std::vector<std::vector<std::int32_t>> prompts;
  for (std::string line; std::getline(file, line);) {
    std::istringstream numbers(line);
    prompts.emplace_back(std::istream_iterator<std::int32_t>(numbers), std::istream_iterator<std::int32_t>());
  }
  return prompts;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) {
    fmt::print(stderr, "usage: generate_bench MODEL THREADS PROMPTS SAMPLES_PER_PROMPT NEW_TOKENS REPEATS\n");
    return 2;
  }
  const auto number = [&](int i) { return static_cast<std::int64_t>(std::atoll(argv[i])); };
  at::set_num_threads(static_cast<int>(number(2)));
  const std::vector<std::vector<std::int32_t>> prompts = read_prompts(argv[3]);
  const std::int64_t per_prompt = number(4), new_tokens = number(5);
  const std::int64_t sequences = static_cast<std::int64_t>(prompts.size()) * per_prompt;
  const int repeats = static_cast<int>(number(6));
  const CausalLm model = load_causal_lm(argv[1], at::kCPU);
  GenerateRequest request{.num_samples = static_cast<std::int32_t>(per_prompt)};
  for (const auto& prompt : prompts)
    request.prompts.push_back({static_cast<std::int64_t>(request.prompts.size()), prompt});
  SamplerWeights weights;
  GenerateOptions options{.stream = RandomStream(1, Purpose::sample), .weights = &weights};
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
  const double total = median(seconds), step = products_s(model, sequences, 10, weights);
  fmt::print(
      "{{\"sequences\": {}, \"new_tokens\": {}, \"threads\": {}, \"median_s\": {:.4f}, \"tokens_per_s\": {:.1f}, "
      "\"products_step_s\": {:.5f}, \"products_tokens_per_s\": {:.1f}, \"prefill_s\": {:.3f}, \"decode_s\": {:.3f}, "
      "\"head_s\": {:.3f}, \"draw_s\": {:.3f}, \"steps\": {}}}\n",
      sequences, new_tokens, at::get_num_threads(), total, static_cast<double>(stats.new_tokens) / total, step,
      static_cast<double>(sequences) / step, stats.prefill_s, stats.decode_s, stats.head_s, stats.draw_s, stats.steps);
  return 0;
}
