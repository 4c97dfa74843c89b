// A language model small enough to list every string, built from the product's own modules, with a reward: F, BoN and
// the objectives are exact sums here. Shared by the truth tests.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/index_add.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "vbon/base/rng.hpp"
#include "vbon/generate/engine.hpp"
#include "vbon/model/hf_weights.hpp"
#include "vbon/model/vocab_head.hpp"
#include "vbon/objective/enumerated.hpp"
#include "vbon/train/learner.hpp"

namespace vbon::truth {

constexpr std::int32_t kVocab = 4;   // token 0 ends a string
constexpr std::int64_t kLength = 4;  // tokens at most: 121 strings a prompt
constexpr std::int64_t kPrompts = 2;
// Two layers: one cannot represent best-of-16 of these strings to .02 nats.
constexpr const char* kConfig = R"({"model_type": "llama", "vocab_size": 4, "hidden_size": 32, "intermediate_size": 64,
  "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 16, "rms_norm_eps": 1e-5,
  "tie_word_embeddings": false, "eos_token_id": 0})";

using String = std::vector<std::int32_t>;

inline std::vector<String> all_strings() {
  std::vector<String> done, open = {{}};
  while (!open.empty()) {
    std::vector<String> longer;
    for (const String& s : open)
      for (std::int32_t token = 0; token < kVocab; ++token) {
        String next = s;
        next.push_back(token);
        (token == 0 || static_cast<std::int64_t>(next.size()) == kLength ? done : longer).push_back(next);
      }
    open = std::move(longer);
  }
  return done;
}

struct World {
  CausalLm reference = random_causal_lm(parse_lm_spec(kConfig, "truth test"), 11, 0.18);
  std::vector<String> strings = all_strings();
  PromptRows prompts;
  // Of each prompt, each string:
  std::vector<std::vector<float>> rewards;
  std::vector<std::vector<double>> pi_ref;
  std::vector<std::vector<Quantiles>> quantiles;
  std::vector<std::map<float, std::size_t>> by_reward;

  World() {
    // Two different tokens each: without a first token of its own, attention over copies of one token cannot count
    // them, and best-of-N would lie outside what the model can represent.
    prompts.add(0, "a", std::vector<std::int32_t>{1, 2});
    prompts.add(1, "b", std::vector<std::int32_t>{3, 1});
    for (std::int64_t p = 0; p < kPrompts; ++p) {
      rewards.emplace_back();
      by_reward.emplace_back();
      for (std::size_t s = 0; s < strings.size(); ++s) {
        rewards.back().push_back(reward_of(p, strings[s]));
        by_reward.back()[rewards.back().back()] = s;
      }
      EXPECT_EQ(by_reward.back().size(), strings.size()) << "rewards must not tie: strings are found by them";
      pi_ref.emplace_back();
      for (const double l : log_probabilities(reference, p)) pi_ref.back().push_back(std::exp(l));
      const std::vector<double> r(rewards.back().begin(), rewards.back().end());
      quantiles.push_back(enumerated_quantiles(pi_ref.back(), r, Ties::uniform));
    }
  }

  // Tokens, pairs of neighbours and, less, places have values, other ones for each prompt.
  static float reward_of(std::int64_t prompt, const String& string) {
    const RandomStream values(5, Purpose::sample);
    double sum = 0;
    std::int32_t previous = 0, place = 0;
    for (const std::int32_t token : string) {
      const auto value = [&](std::int32_t context) { return 2 * values.uniform(prompt, token, context) - 1; };
      sum += value(0) + value(1 + previous) + 0.3 * value(10 + place++);
      previous = token;
    }
    return static_cast<float>(sum);
  }

  Quantiles quantiles_of(std::int64_t prompt, float reward) const {
    const auto p = static_cast<std::size_t>(prompt);
    return quantiles[p][by_reward[p].at(reward)];
  }
  // By enumeration. The worst string of all has F_strict = 0: its own mass stands in, so that L and L1 stay finite.
  LogF log_f(const Quantiles& q) const { return {.log_f = std::log(q.f_strict > 0 ? q.f_strict : q.f), .exact = q}; }

  RewardRanks ranks() const {
    return {.log_f = [this](std::int64_t row, float reward,
                            std::span<const std::int32_t>) { return log_f(quantiles_of(row, reward)); },
            .win =
                [this](std::int64_t row, float reward) {
                  const Quantiles q = quantiles_of(row, reward);
                  return 0.5 * (q.f_strict + q.f);
                }};
  }

  // log pi of every string after a prompt, [S] double; differentiable.
  at::Tensor log_pi(const CausalLm& model, std::int64_t prompt) const {
    std::vector<Sequence> sequences;
    for (const String& s : strings) sequences.push_back({prompts.tokens_of(prompt), s});
    const PackedSequences packed = pack(sequences, at::kCPU);
    const at::Tensor logp =
        token_statistics(response_hidden(model, packed, 0, {}), model.head, packed.targets, 1.0).logp;
    std::vector<std::int64_t> string_of_row;
    for (std::size_t i = 0; i < strings.size(); ++i)
      string_of_row.insert(string_of_row.end(), strings[i].size(), static_cast<std::int64_t>(i));
    return at::zeros({static_cast<std::int64_t>(strings.size())}, at::kDouble)
        .index_add(0, at::tensor(string_of_row, at::kLong), logp.to(at::kDouble));
  }
  std::vector<double> log_probabilities(const CausalLm& model, std::int64_t prompt) const {
    const at::NoGradGuard no_grad;
    const at::Tensor x = log_pi(model, prompt);
    return {x.const_data_ptr<double>(), x.const_data_ptr<double>() + x.numel()};
  }

  // Means over prompts of KL(policy || BoN-N) and of the N that the policy has in effect.
  double kl_to_bon(const CausalLm& policy, double n) const {
    double sum = 0;
    for (std::size_t p = 0; p < kPrompts; ++p)
      sum += enumerated_kl(log_probabilities(policy, static_cast<std::int64_t>(p)),
                           enumerated_log_bon(pi_ref[p], quantiles[p], n));
    return sum / kPrompts;
  }
  double mean_effective_n(const CausalLm& policy) const {
    double sum = 0;
    for (std::size_t p = 0; p < kPrompts; ++p)
      sum += effective_n(log_probabilities(policy, static_cast<std::int64_t>(p)), quantiles[p]);
    return sum / kPrompts;
  }

  std::vector<Completion> draw(const CausalLm& model, std::int32_t samples, RandomStream stream) const {
    GenerateRequest request{.num_samples = samples};
    for (std::int64_t p = 0; p < kPrompts; ++p) request.prompts.push_back({p, prompts.tokens_of(p)});
    return generate(model, request,
                    {.sampling = {.max_new_tokens = kLength, .slots = 512}, .eos_ids = {0}, .stream = stream});
  }
};

// A scored batch of an online step, as the rollout workers and scorers would hand it over.
inline RolloutBatch rollout_batch(const World& world, const CausalLm& policy, const Settings& settings,
                                  std::int64_t step) {
  const auto drawn =
      world.draw(policy, static_cast<std::int32_t>(settings.train.samples_per_prompt),
                 RandomStream(static_cast<std::uint64_t>(*settings.run.seed), Purpose::rollout, 0, step));
  RolloutBatch batch;
  batch.max_new_tokens = kLength;
  batch.tokens.assign(drawn.size() * kLength, -1);
  batch.logp_behavior.assign(drawn.size() * kLength, std::nanf(""));
  for (std::size_t i = 0; i < drawn.size(); ++i) {
    const Completion& c = drawn[i];
    batch.prompt_id.push_back(c.prompt);
    batch.length.push_back(static_cast<std::int32_t>(c.tokens.size()));
    batch.finished.push_back(c.finished ? 1 : 0);
    std::copy(c.tokens.begin(), c.tokens.end(), batch.tokens.begin() + static_cast<std::ptrdiff_t>(i * kLength));
    std::copy(c.logp.begin(), c.logp.end(), batch.logp_behavior.begin() + static_cast<std::ptrdiff_t>(i * kLength));
    batch.reward.push_back(World::reward_of(c.prompt, c.tokens));
  }
  return batch;
}

// The target pi_ref e^{value of a string}, normalised, against a policy: mean KL over prompts.
using Value = std::function<double(std::size_t prompt, std::size_t string)>;
inline double distance(const World& world, const CausalLm& policy, const Value& value) {
  double sum = 0;
  for (std::size_t p = 0; p < kPrompts; ++p) {
    std::vector<double> log_target;
    double total = 0;
    for (std::size_t s = 0; s < world.strings.size(); ++s) {
      log_target.push_back(std::log(world.pi_ref[p][s]) + value(p, s));
      total += std::exp(log_target.back());
    }
    for (double& l : log_target) l -= std::log(total);
    sum += enumerated_kl(world.log_probabilities(policy, static_cast<std::int64_t>(p)), log_target) / kPrompts;
  }
  return sum;
}

inline Settings settings_of(double n, std::int64_t samples) {
  Settings s;
  s.run.seed = 1;
  s.sampling.max_new_tokens = kLength;
  s.train.prompts_per_step = kPrompts;
  s.train.samples_per_prompt = samples;
  s.train.micro_batch = 1024;
  s.vbon.n = n;
  return s;
}

}  // namespace vbon::truth
