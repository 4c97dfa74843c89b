#include "vbon/train/sequences.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "vbon/base/error.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

struct ByTokens {
  bool operator()(std::span<const std::int32_t> a, std::span<const std::int32_t> b) const {
    return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
  }
};

// The rows [n, D] of the sequences' own copies.
at::Tensor unique_rows(const PackedSequences& packed, std::span<const at::Tensor> trunk) {
  check(std::ssize(trunk) == packed.count(), "response_hidden: a trunk for every sequence");
  const at::Tensor copies = at::cat(std::vector<at::Tensor>(trunk.begin(), trunk.end()));
  std::vector<std::int64_t> copy_of(idx(packed.ragged.num_rows()));
  std::int64_t copy = 0;
  for (const std::vector<std::int64_t>& inputs : packed.inputs)
    for (const std::int64_t row : inputs) copy_of[idx(row)] = copy++;
  check(copy == copies.size(0), "response_hidden: trunks of other sequences");
  if (copy == std::ssize(copy_of)) return copies;
  return gather_rows(copies, at::tensor(copy_of, at::kLong).to(copies.device()));
}

}  // namespace

PackedSequences pack(std::span<const Sequence> sequences, at::Device device) {
  check(!sequences.empty(), "pack: no sequences");
  PackedSequences packed;
  std::vector<std::int64_t> tokens, rows, targets;
  std::map<std::span<const std::int32_t>, std::int64_t, ByTokens> first_rows;  // of each prompt
  packed.offset.push_back(0);
  for (const Sequence& s : sequences) {
    check(!s.prompt.empty() && !s.response.empty(), "pack: a sequence has a prompt and a response");
    const auto [prompt, is_new] = first_rows.try_emplace(s.prompt, std::ssize(tokens));
    if (is_new) tokens.insert(tokens.end(), s.prompt.begin(), s.prompt.end());
    std::vector<std::int64_t>& inputs = packed.inputs.emplace_back(idx(s.inputs()));
    const auto response = inputs.begin() + std::ssize(s.prompt);
    std::iota(inputs.begin(), response, prompt->second);
    std::iota(response, inputs.end(), std::ssize(tokens));
    tokens.insert(tokens.end(), s.response.begin(), s.response.end() - 1);
    rows.insert(rows.end(), response - 1, inputs.end());
    targets.insert(targets.end(), s.response.begin(), s.response.end());
    packed.offset.push_back(std::ssize(rows));
  }
  packed.ragged = ragged_rows(packed.inputs, device);
  packed.tokens = at::tensor(tokens, at::kLong).to(device);
  packed.rows = at::tensor(rows, at::kLong).to(device);
  packed.targets = at::tensor(targets, at::kLong).to(device);
  return packed;
}

std::vector<at::Tensor> run_trunk(const CausalLm& model, const PackedSequences& packed, std::int64_t first) {
  const at::NoGradGuard no_grad;
  const at::Tensor& positions = packed.ragged.positions;
  const at::Tensor x = run_blocks(model, embed(model, packed.tokens, positions), positions, 0, first,
                                  ragged_attention(model.spec, packed.ragged));
  std::vector<at::Tensor> trunk;
  for (const std::vector<std::int64_t>& inputs : packed.inputs)
    trunk.push_back(gather_rows(x, at::tensor(inputs, at::kLong).to(x.device())));
  return trunk;
}

at::Tensor response_hidden(const CausalLm& model, const PackedSequences& packed, std::int64_t first,
                           std::span<const at::Tensor> trunk) {
  const at::Tensor& positions = packed.ragged.positions;
  at::Tensor x = first > 0 ? unique_rows(packed, trunk) : embed(model, packed.tokens, positions);
  x = run_blocks(model, x, positions, first, model.num_layers(), ragged_attention(model.spec, packed.ragged));
  return final_hidden(model, gather_rows(x, packed.rows));
}

std::vector<std::vector<std::int64_t>> micro_batches(std::span<const Sequence> sequences, std::int64_t max_sequences) {
  check(max_sequences >= 1, "micro_batches: at least one sequence each");
  struct OfPrompt {
    std::int64_t longest = 0;
    std::vector<std::int64_t> members;
  };
  std::vector<OfPrompt> prompts;
  std::map<std::span<const std::int32_t>, std::size_t, ByTokens> place;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const auto [found, is_new] = place.try_emplace(sequences[i].prompt, prompts.size());
    if (is_new) prompts.emplace_back();
    OfPrompt& of_prompt = prompts[found->second];
    of_prompt.longest = std::max(of_prompt.longest, sequences[i].inputs());
    of_prompt.members.push_back(static_cast<std::int64_t>(i));
  }
  std::stable_sort(prompts.begin(), prompts.end(),
                   [](const OfPrompt& a, const OfPrompt& b) { return a.longest < b.longest; });
  std::vector<std::vector<std::int64_t>> batches;
  for (OfPrompt& prompt : prompts) {
    std::stable_sort(prompt.members.begin(), prompt.members.end(), [&](std::int64_t a, std::int64_t b) {
      return sequences[idx(a)].inputs() < sequences[idx(b)].inputs();
    });
    for (const std::int64_t member : prompt.members) {
      if (batches.empty() || std::ssize(batches.back()) == max_sequences) batches.emplace_back();
      batches.back().push_back(member);
    }
  }
  return batches;
}

}  // namespace vbon
