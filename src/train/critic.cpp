#include "vbon/train/critic.hpp"

#include <ATen/ops/zeros.h>

#include <algorithm>

#include "vbon/base/error.hpp"

namespace vbon {

Critic make_critic(Baseline kind, const CausalLm& reference, TrainedLayers layers) {
  Critic critic{.kind = kind};
  if (!critic.exists()) return critic;
  const auto options = at::TensorOptions(at::kFloat).device(reference.device());
  critic.head = {at::zeros({1, reference.spec.hidden_size}, options), at::zeros({1}, options)};
  if (kind == Baseline::critic_model) critic.model = make_policy(reference, layers);
  return critic;
}

std::vector<NamedParameter> trained_parameters(Critic& critic) {
  if (!critic.exists()) return {};
  std::vector<NamedParameter> parameters = {{"critic.head.weight", &critic.head.weight},
                                            {"critic.head.bias", &critic.head.bias}};
  if (critic.kind != Baseline::critic_model) return parameters;
  // The language-model head of the critic's own model never runs: it is no parameter of it (the embedding may be).
  for (NamedParameter& p : trained_parameters(critic.model))
    if (p.tensor != &critic.model.model.head) parameters.push_back({"critic." + p.name, p.tensor});
  return parameters;
}

at::Tensor values_of(const Critic& critic, const at::Tensor& policy_hidden, const PackedSequences& packed,
                     std::span<const at::Tensor> trunk) {
  check(critic.exists(), "values of no critic");
  const at::Tensor hidden = critic.kind == Baseline::critic_head
                                ? policy_hidden
                                : response_hidden(critic.model.model, packed, critic.model.first_trained_block, trunk);
  return linear(hidden.to(at::kFloat), critic.head).squeeze(1);
}

}  // namespace vbon
