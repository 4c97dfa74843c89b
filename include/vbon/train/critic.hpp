// State values for PPO: a linear head on the policy's last hidden state, or on a model of its own that starts as the
// reference. The head starts at zero, so the first values are 0.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "vbon/objective/ppo_config.hpp"
#include "vbon/train/sequences.hpp"
#include "vbon/train/trainable.hpp"

namespace vbon {

struct Critic {
  Baseline kind = Baseline::rloo;  // rloo, none: there is no critic
  Linear head;                     // [1, D], [1]
  Policy model;                    // critic_model: trained like the policy, its head unused
  bool exists() const { return kind == Baseline::critic_head || kind == Baseline::critic_model; }
};

Critic make_critic(Baseline kind, const CausalLm& reference, TrainedLayers layers);
std::vector<NamedParameter> trained_parameters(Critic& critic);

// Values [R] of the rows that predict response tokens, before those tokens. `policy_hidden` [R, D] is the policy's.
at::Tensor values_of(const Critic& critic, const at::Tensor& policy_hidden, const PackedSequences& packed,
                     std::span<const at::Tensor> trunk);

}  // namespace vbon
