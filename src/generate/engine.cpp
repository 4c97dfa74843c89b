#include "vbon/generate/engine.hpp"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>
#include <numeric>

#include "generate/draw.hpp"
#include "vbon/base/error.hpp"
#include "vbon/model/kv_cache.hpp"

namespace vbon {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }
std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

// What the prompts leave behind: their keys and values, the logits of the first new token, and kept rows.
struct Prefilled {
  std::vector<PrefixCache> caches;
  at::Tensor logits;               // [prompts, V] float32, CPU or device
  std::vector<at::Tensor> trunks;  // [P, D] each, if kept
};

constexpr std::int64_t kPrefillTokens = 4096;  // rows of one prefill pass at most (unless one prompt has more)

void prefill_range(const CausalLm& model, const GenerateRequest& request, const GenerateOptions& options,
                   const Multiply& multiply, std::int64_t begin, std::int64_t end, Prefilled& out,
                   std::vector<at::Tensor>& logits) {
  const std::int64_t batch = end - begin;
  std::vector<std::int64_t> lengths, last_rows;
  for (std::int64_t i = begin; i < end; ++i)
    lengths.push_back(static_cast<std::int64_t>(request.prompts[idx(i)].tokens.size()));
  const std::int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  at::Tensor tokens = at::zeros({batch, longest}, at::kLong);
  for (std::int64_t i = 0; i < batch; ++i) {
    const auto& prompt = request.prompts[idx(begin + i)].tokens;
    std::copy(prompt.begin(), prompt.end(), tokens.mutable_data_ptr<std::int64_t>() + i * longest);
    last_rows.push_back(i * longest + lengths[idx(i)] - 1);
  }
  const at::Tensor positions = row_positions(batch, longest, model.device());
  std::vector<PrefixCache> caches;
  const Attend attend = prefill_attention(model.spec, batch, longest, lengths, caches);
  at::Tensor x = embed(model, tokens.view({-1}).to(model.device()), positions);
  const std::int64_t cut = options.keep_layer < 0 ? 0 : options.keep_layer;
  x = run_blocks(model, x, positions, 0, cut, attend, multiply);
  if (options.keep_layer >= 0)
    for (std::int64_t i = 0; i < batch; ++i) out.trunks.push_back(x.narrow(0, i * longest, lengths[idx(i)]).clone());
  x = run_blocks(model, x, positions, cut, model.num_layers(), attend, multiply);
  const at::Tensor last = x.index_select(0, at::tensor(last_rows, at::kLong).to(model.device()));
  logits.push_back(head_logits(model, final_hidden(model, last), multiply).to(at::kFloat));
  std::move(caches.begin(), caches.end(), std::back_inserter(out.caches));
}

Prefilled prefill(const CausalLm& model, const GenerateRequest& request, const GenerateOptions& options,
                  const Multiply& multiply) {
  Prefilled out;
  std::vector<at::Tensor> logits;
  const auto count = static_cast<std::int64_t>(request.prompts.size());
  for (std::int64_t begin = 0, end = 0; begin < count; begin = end) {
    std::int64_t longest = 0;
    for (end = begin; end < count; ++end) {
      const std::int64_t grown = std::max(longest, static_cast<std::int64_t>(request.prompts[idx(end)].tokens.size()));
      if (end > begin && grown * (end - begin + 1) > kPrefillTokens) break;
      longest = grown;
    }
    prefill_range(model, request, options, multiply, begin, end, out, logits);
  }
  out.logits = at::cat(logits, 0).contiguous();
  return out;
}

// The sequences of a chunk and the slots that work on them.
class Decoder {
 public:
  Decoder(const CausalLm& model, const GenerateRequest& request, const GenerateOptions& options,
          SamplerWeights& weights)
      : model_(model), request_(request), options_(options) {
    const std::int64_t total = static_cast<std::int64_t>(request.prompts.size()) * request.num_samples;
    completions_.resize(idx(total));
    for (std::int64_t i = 0; i < total; ++i) {
      completions_[idx(i)].prompt = i / request.num_samples;
      completions_[idx(i)].sample = request.first_sample + static_cast<std::int32_t>(i % request.num_samples);
    }
    const std::int64_t slots = std::min(options.sampling.slots, total);
    // A response of T tokens appends T - 1 of them: the last one is drawn and not run.
    cache_ = make_suffix_cache(model, slots, std::max<std::int64_t>(1, options.sampling.max_new_tokens - 1));
    occupant_.assign(idx(slots), -1);
    if (!options.portable) packed_ = weights.prepared(model, slots);
  }

  std::vector<Completion> run(GenerateStatistics& stats) {
    const auto start = Clock::now();
    prefilled_ = prefill(model_, request_, options_, multiply());
    for (const PromptTokens& prompt : request_.prompts)
      stats.prompt_tokens += static_cast<std::int64_t>(prompt.tokens.size());
    stats.prefill_s += seconds_since(start);
    if (options_.keep_layer >= 0) kept_.resize(completions_.size());
    for (refill(); any_active(); refill()) step(stats);
    finish(stats);
    return std::move(completions_);
  }

 private:
  bool any_active() const {
    return std::any_of(occupant_.begin(), occupant_.end(), [](std::int64_t o) { return o >= 0; });
  }

  // Free slots take the next sequences; a sequence's first token comes from its prompt's logits.
  void refill() {
    for (std::int64_t& occupant : occupant_) {
      while (occupant < 0 && next_ < static_cast<std::int64_t>(completions_.size())) {
        const std::int64_t sequence = next_++;
        const Drawn drawn =
            draw(prefilled_.logits, completions_[idx(sequence)].prompt, options_.sampling, uniform(sequence));
        if (!accept(sequence, drawn)) occupant = sequence;
      }
    }
  }

  double uniform(std::int64_t sequence) const {
    const Completion& c = completions_[idx(sequence)];
    return options_.stream.uniform(request_.prompts[idx(c.prompt)].id, c.sample,
                                   static_cast<std::int32_t>(c.tokens.size()));
  }

  // Appends a token; true when the sequence is complete.
  bool accept(std::int64_t sequence, const Drawn& drawn) {
    Completion& c = completions_[idx(sequence)];
    c.tokens.push_back(drawn.token);
    c.logp.push_back(static_cast<float>(drawn.logp));
    c.finished = std::find(options_.eos_ids.begin(), options_.eos_ids.end(), drawn.token) != options_.eos_ids.end();
    return c.finished || static_cast<std::int64_t>(c.tokens.size()) >= options_.sampling.max_new_tokens;
  }

  void step(GenerateStatistics& stats) {
    const auto start = Clock::now();
    DecodeRows rows;
    std::vector<std::int64_t> tokens, positions, sequences;
    for (std::size_t slot = 0; slot < occupant_.size(); ++slot) {
      if (occupant_[slot] < 0) continue;
      const Completion& c = completions_[idx(occupant_[slot])];
      const auto drawn = static_cast<std::int64_t>(c.tokens.size());
      rows.slot.push_back(static_cast<std::int64_t>(slot));
      rows.prefix.push_back(c.prompt);
      rows.suffix_length.push_back(drawn - 1);
      tokens.push_back(c.tokens.back());
      positions.push_back(prefilled_.caches[idx(c.prompt)].length + drawn - 1);
      sequences.push_back(occupant_[slot]);
    }
    const at::Tensor hidden = run_rows(rows, tokens, positions, sequences);
    stats.decode_s += seconds_since(start);
    const auto head_start = Clock::now();
    const at::Tensor logits = head_logits(model_, hidden, multiply()).to(at::kFloat).contiguous();
    stats.head_s += seconds_since(head_start);
    const auto draw_start = Clock::now();
    std::vector<double> uniforms;
    for (const std::int64_t sequence : sequences) uniforms.push_back(uniform(sequence));
    const std::vector<Drawn> drawn = draw_rows(logits, options_.sampling, uniforms);
    for (std::size_t i = 0; i < sequences.size(); ++i)
      if (accept(sequences[i], drawn[i])) occupant_[idx(rows.slot[i])] = -1;
    stats.draw_s += seconds_since(draw_start);
    ++stats.steps;
  }

  at::Tensor run_rows(const DecodeRows& rows, const std::vector<std::int64_t>& tokens,
                      const std::vector<std::int64_t>& positions, const std::vector<std::int64_t>& sequences) {
    const at::Tensor position = at::tensor(positions, at::kLong).to(model_.device());
    const Attend attend = decode_attention(model_.spec, prefilled_.caches, cache_, rows, options_.portable);
    at::Tensor x = embed(model_, at::tensor(tokens, at::kLong).to(model_.device()), position);
    const std::int64_t cut = std::max<std::int64_t>(0, options_.keep_layer);
    x = run_blocks(model_, x, position, 0, cut, attend, multiply());
    if (options_.keep_layer >= 0)
      for (std::size_t i = 0; i < sequences.size(); ++i)
        kept_[idx(sequences[i])].push_back(x.narrow(0, static_cast<std::int64_t>(i), 1).clone());
    x = run_blocks(model_, x, position, cut, model_.num_layers(), attend, multiply());
    return final_hidden(model_, x);
  }

  Multiply multiply() const {
    if (packed_ == nullptr) return linear;
    return [packed = packed_](const at::Tensor& x, const Linear& layer) { return packed->multiply(x, layer); };
  }

  void finish(GenerateStatistics& stats) {
    for (std::size_t i = 0; i < completions_.size(); ++i) {
      stats.new_tokens += static_cast<std::int64_t>(completions_[i].tokens.size());
      if (options_.keep_layer < 0) continue;
      std::vector<at::Tensor> rows = {prefilled_.trunks[idx(completions_[i].prompt)]};
      rows.insert(rows.end(), kept_[i].begin(), kept_[i].end());
      completions_[i].trunk = at::cat(rows, 0);
    }
  }

  const CausalLm& model_;
  const GenerateRequest& request_;
  const GenerateOptions& options_;
  Prefilled prefilled_;
  SuffixCache cache_;
  PackedWeights* packed_ = nullptr;
  std::vector<Completion> completions_;
  std::vector<std::vector<at::Tensor>> kept_;  // of each sequence: rows [1, D] of its decoded tokens
  std::vector<std::int64_t> occupant_;         // of each slot: its sequence, or -1
  std::int64_t next_ = 0;                      // first sequence not yet started
};

void validate(const CausalLm& model, const GenerateRequest& request, const GenerateOptions& options) {
  require(!request.prompts.empty() && request.num_samples > 0, "nothing to sample: no prompts or no samples asked for");
  for (const PromptTokens& prompt : request.prompts) {
    const auto length = static_cast<std::int64_t>(prompt.tokens.size());
    require(length > 0, "prompt {} has no tokens; give it at least one (a start-of-text token will do)", prompt.id);
    require(length + options.sampling.max_new_tokens <= model.spec.max_positions,
            "prompt {} has {} tokens: with {} new ones it does not fit the model's {} positions; shorten it or lower "
            "sampling.max_new_tokens",
            prompt.id, length, options.sampling.max_new_tokens, model.spec.max_positions);
    for (const std::int32_t token : prompt.tokens)
      require(token >= 0 && token < model.spec.vocab_size,
              "prompt {} holds token {}, outside the model's vocabulary of {}", prompt.id, token,
              model.spec.vocab_size);
  }
  check(options.keep_layer <= model.num_layers(), "keep_layer out of range");
}

}  // namespace

PackedWeights* SamplerWeights::prepared(const CausalLm& model, std::int64_t slots) {
  constexpr std::int64_t kFewestSlots = 4;  // below, products only read the weights once, in any layout
  if (slots < kFewestSlots || !PackedWeights::pays() || !model.device().is_cpu()) return nullptr;
  if (packed_ == nullptr) packed_ = std::make_unique<PackedWeights>();
  packed_->forget_trained();
  return packed_.get();
}

std::vector<Completion> generate(const CausalLm& model, const GenerateRequest& request, const GenerateOptions& options,
                                 GenerateStatistics* statistics) {
  validate(model, request, options);
  const c10::InferenceMode guard;
  GenerateStatistics local;
  SamplerWeights own;
  return Decoder(model, request, options, options.weights != nullptr ? *options.weights : own)
      .run(statistics != nullptr ? *statistics : local);
}

}  // namespace vbon
