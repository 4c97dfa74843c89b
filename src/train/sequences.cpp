#include "vbon/train/sequences.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <numeric>

#include "vbon/base/error.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

}  // namespace

PackedSequences pack(std::span<const Sequence> sequences, at::Device device) {
  check(!sequences.empty(), "pack: no sequences");
  PackedSequences packed;
  packed.count = static_cast<std::int64_t>(sequences.size());
  for (const Sequence& s : sequences) {
    check(!s.prompt.empty() && !s.response.empty(), "pack: a sequence has a prompt and a response");
    packed.inputs.push_back(s.inputs());
    packed.length = std::max(packed.length, s.inputs());
  }
  at::Tensor tokens = at::zeros({packed.count * packed.length}, at::kLong);
  std::int64_t* out = tokens.mutable_data_ptr<std::int64_t>();
  std::vector<std::int64_t> rows, targets;
  packed.offset.push_back(0);
  for (std::int64_t i = 0; i < packed.count; ++i) {
    const Sequence& s = sequences[idx(i)];
    std::int64_t* row = std::copy(s.prompt.begin(), s.prompt.end(), out + i * packed.length);
    std::copy(s.response.begin(), s.response.end() - 1, row);
    const std::int64_t first = i * packed.length + static_cast<std::int64_t>(s.prompt.size()) - 1;
    for (std::size_t t = 0; t < s.response.size(); ++t) {
      rows.push_back(first + static_cast<std::int64_t>(t));
      targets.push_back(s.response[t]);
    }
    packed.offset.push_back(static_cast<std::int64_t>(rows.size()));
  }
  packed.tokens = tokens.to(device);
  packed.rows = at::tensor(rows, at::kLong).to(device);
  packed.targets = at::tensor(targets, at::kLong).to(device);
  return packed;
}

std::vector<at::Tensor> run_trunk(const CausalLm& model, const PackedSequences& packed, std::int64_t first) {
  const at::NoGradGuard no_grad;
  const at::Tensor positions = row_positions(packed.count, packed.length, model.device());
  const at::Tensor x = run_blocks(model, embed(model, packed.tokens, positions), positions, 0, first,
                                  full_attention(model.spec, packed.count, packed.length));
  std::vector<at::Tensor> trunk;
  for (std::int64_t i = 0; i < packed.count; ++i)
    trunk.push_back(x.narrow(0, i * packed.length, packed.inputs[idx(i)]).clone());
  return trunk;
}

at::Tensor response_hidden(const CausalLm& model, const PackedSequences& packed, std::int64_t first,
                           std::span<const at::Tensor> trunk) {
  const at::Tensor positions = row_positions(packed.count, packed.length, model.device());
  at::Tensor x;
  if (first > 0) {
    check(static_cast<std::int64_t>(trunk.size()) == packed.count, "response_hidden: a trunk for every sequence");
    x = at::zeros({packed.count * packed.length, model.spec.hidden_size}, trunk.front().options());
    for (std::int64_t i = 0; i < packed.count; ++i)
      x.narrow(0, i * packed.length, packed.inputs[idx(i)]).copy_(trunk[idx(i)]);
  } else {
    x = embed(model, packed.tokens, positions);
  }
  x = run_blocks(model, x, positions, first, model.num_layers(),
                 full_attention(model.spec, packed.count, packed.length));
  return final_hidden(model, x.index_select(0, packed.rows));
}

std::vector<std::vector<std::int64_t>> micro_batches(std::span<const Sequence> sequences, std::int64_t max_sequences) {
  check(max_sequences >= 1, "micro_batches: at least one sequence each");
  std::vector<std::int64_t> order(sequences.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return sequences[idx(a)].inputs() < sequences[idx(b)].inputs();
  });
  std::vector<std::vector<std::int64_t>> batches;
  for (std::size_t begin = 0; begin < order.size(); begin += idx(max_sequences)) {
    const std::size_t end = std::min(order.size(), begin + idx(max_sequences));
    batches.emplace_back(order.begin() + static_cast<std::ptrdiff_t>(begin),
                         order.begin() + static_cast<std::ptrdiff_t>(end));
  }
  return batches;
}

}  // namespace vbon
