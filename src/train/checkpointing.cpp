#include "vbon/train/checkpointing.hpp"

#include <ATen/core/grad_mode.h>

#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/model/hf_weights.hpp"
#include "vbon/model/tensor_io.hpp"
#include "vbon/store/safetensors.hpp"

namespace vbon {
namespace {

constexpr const char* kOptimizer = "state/optimizer.safetensors";
constexpr const char* kCritic = "state/critic.safetensors";
constexpr const char* kAnchor = "state/anchor.safetensors";
constexpr const char* kMasters = "state/masters.safetensors";
constexpr const char* kBehind = "state/behind.safetensors";
constexpr const char* kCounters = "state/counters.json";

std::vector<std::string> part_names(const Settings& settings, const LearnerState& state, const BehindWeights& behind) {
  std::vector<std::string> names = {"policy/model.safetensors", "policy/config.json", "policy/generation_config.json",
                                    kOptimizer, kCounters};
  for (const std::string& name : tokenizer_files(settings.model.reference)) names.push_back("policy/" + name);
  if (state.critic.exists()) names.push_back(kCritic);
  if (state.anchor) names.push_back(kAnchor);
  if (behind.version >= 0) names.push_back(kBehind);
  if (state.parameters.has_masters()) names.push_back(kMasters);
  return names;
}

at::Tensor critic_part(const LearnerState& state) {
  const at::Tensor& values = state.parameters.values();
  return values.narrow(0, state.policy_size, values.numel() - state.policy_size);
}

}  // namespace

Checkpoint save_checkpoint(const CheckpointFiles& files, const LearnerState& state,
                           const std::pair<at::Tensor, at::Tensor>& moments, const BehindWeights& behind,
                           const Counters& counters, const Settings& settings, Manifest manifest) {
  const std::vector<std::string> names = part_names(settings, state, behind);
  const fs::path folder = files.begin(counters.step, names);
  export_causal_lm(state.policy.model, folder / "policy",
                   {.source = settings.model.reference,
                    .temperature = settings.sampling.temperature,
                    .max_new_tokens = settings.sampling.max_new_tokens});
  write_tensors(folder / kOptimizer, {{"first_moment", moments.first}, {"second_moment", moments.second}});
  if (state.parameters.has_masters())
    write_tensors(folder / kMasters, {{"parameters", state.parameters.values().cpu()}});
  if (state.critic.exists()) write_tensors(folder / kCritic, {{"parameters", critic_part(state)}});
  if (state.anchor) write_tensors(folder / kAnchor, {{"parameters", state.anchor->parameters.values()}});
  if (behind.version >= 0) {
    NamedTensors tensors = {{"policy", behind.policy.cpu()}};
    if (behind.anchor.defined()) tensors.emplace_back("anchor", behind.anchor.cpu());
    write_tensors(folder / kBehind, tensors);
  }
  write_counters(folder / kCounters, {.run = counters,
                                      .behind = behind.version,
                                      .optimizer_steps = state.parallel->optimizer().num_steps(),
                                      .kl_coef = state.kl_coef});
  manifest.step = counters.step;
  return files.commit(std::move(manifest));
}

Counters load_checkpoint(const Checkpoint& checkpoint, LearnerState& state, BehindWeights& behind) {
  const at::NoGradGuard no_grad;
  // The exported weights are exactly those that were trained, and sampled from; masters have more digits.
  const CausalLm saved = load_causal_lm(checkpoint.folder / "policy", at::kCPU, state.policy.model.dtype());
  CausalLm source = saved;
  Policy same{source, state.policy.layers, state.policy.first_trained_block};
  const std::vector<NamedParameter> from = trained_parameters(same), to = trained_parameters(state.policy);
  check(from.size() == to.size(), "a checkpoint of another model");
  for (std::size_t i = 0; i < from.size(); ++i) to[i].tensor->detach().copy_(*from[i].tensor);
  if (state.parameters.has_masters()) {
    const SafeTensors masters = SafeTensors::open_file(checkpoint.folder / kMasters);
    state.parameters.values().copy_(load_tensor(masters, "parameters", {state.parameters.size()}, at::kFloat));
    state.parameters.refresh();
  }
  const SafeTensors optimizer = SafeTensors::open_file(checkpoint.folder / kOptimizer);
  const SavedCounters counters = read_counters(checkpoint.folder / kCounters);
  const std::vector<std::int64_t> shape = {state.parameters.size()};
  state.parallel->restore(load_tensor(optimizer, "first_moment", shape, at::kFloat),
                          load_tensor(optimizer, "second_moment", shape, at::kFloat), counters.optimizer_steps);
  if (state.critic.exists()) {
    const SafeTensors critic = SafeTensors::open_file(checkpoint.folder / kCritic);
    at::Tensor part = critic_part(state);
    part.detach().copy_(load_tensor(critic, "parameters", {part.numel()}, at::kFloat));
  }
  if (state.anchor) {
    const SafeTensors anchor = SafeTensors::open_file(checkpoint.folder / kAnchor);
    at::Tensor& values = state.anchor->parameters.values();
    values.copy_(load_tensor(anchor, "parameters", {values.numel()}, at::kFloat));
    state.anchor->parameters.refresh();
  }
  behind = {.version = counters.behind, .policy = {}, .anchor = {}};
  if (behind.version >= 0) {
    const SafeTensors file = SafeTensors::open_file(checkpoint.folder / kBehind);
    const auto flat = [&](const char* name, std::int64_t size) {
      return load_tensor(file, name, {size}, at::kFloat).to(state.parameters.values().device());
    };
    behind.policy = flat("policy", state.policy_size);
    if (state.anchor) behind.anchor = flat("anchor", state.anchor->parameters.size());
  }
  state.kl_coef = counters.kl_coef;
  return counters.run;
}

}  // namespace vbon
