// Small contents for every schema, made from a seed; written to look like the real thing (ties, cut samples, Unicode).
#pragma once

#include <algorithm>
#include <cmath>
#include <random>

#include "vbon/store/eval_file.hpp"
#include "vbon/store/pool.hpp"
#include "vbon/store/rollouts.hpp"

namespace vbon {

inline constexpr std::int64_t kEos = 0;

// Prompts first .. first + count - 1 of a set that does not depend on how it is cut.
inline SampleBlock example_block(std::int64_t first, std::int64_t count, std::int64_t m = 4, std::int64_t t = 5) {
  SampleBlock block;
  block.samples.num_samples = m;
  block.samples.max_new_tokens = t;
  for (std::int64_t p = first; p < first + count; ++p) {
    std::mt19937 random(static_cast<unsigned>(p));
    std::vector<std::int32_t> prompt(static_cast<std::size_t>(p % 4 + 1));
    for (auto& token : prompt) token = static_cast<std::int32_t>(random() % 100 + 1);
    block.prompts.add(1000 + p, "prompt " + std::to_string(p) + " \xC3\xA9\n", prompt);
    for (std::int64_t s = 0; s < m; ++s) {
      const auto drawn = static_cast<std::int64_t>(random() % static_cast<unsigned>(t + 1)) + 1;  // t + 1: cut
      const std::int64_t length = std::min(drawn, t);
      for (std::int64_t i = 0; i < t; ++i) {
        const bool last = i + 1 == length && drawn <= t;
        const auto token = static_cast<std::int32_t>(random() % 100 + 1);
        block.samples.tokens.push_back(i >= length ? -1 : last ? static_cast<std::int32_t>(kEos) : token);
      }
      block.samples.length.push_back(static_cast<std::int32_t>(length));
      block.samples.finished.push_back(drawn <= t ? 1 : 0);
      block.samples.logp_reference.push_back(-0.5f * static_cast<float>(length));
      block.rewards["main"].push_back(static_cast<float>(random() % 5) / 4 - 1);
      block.rewards["evaluator"].push_back(static_cast<float>(random() % 1000) / 1000);
    }
  }
  return block;
}

inline PoolHeader example_pool_header(std::int64_t m = 4, std::int64_t t = 5) {
  PoolHeader header;
  header.provenance.vbon_version = "0.1.0";
  header.provenance.config = "pool:\n  samples: 4\n";
  header.provenance.seed = 7;
  header.provenance.run_id = "run";
  header.provenance.library_versions = {{"torch", "2.11.0"}};
  header.provenance.reference_sha256 = std::string(64, 'a');
  header.provenance.tokenizer_sha256 = std::string(64, 'b');
  header.provenance.reward_sha256 = std::string(64, 'c');
  header.provenance.prompts_sha256 = std::string(64, 'd');
  header.temperature = 0.7;
  header.max_new_tokens = t;
  header.num_samples = m;
  header.eos_ids = {kEos};
  header.reward_output = "log_prob";
  header.seconds = 1.25;
  return header;
}

// `stage` decides which columns are filled.
inline RolloutBatch example_rollouts(std::int64_t first_prompt, std::int64_t prompts, RolloutStage stage) {
  const SampleBlock block = example_block(first_prompt, prompts);
  RolloutBatch batch;
  batch.max_new_tokens = block.samples.max_new_tokens;
  const auto t = static_cast<std::size_t>(batch.max_new_tokens);
  batch.tokens = block.samples.tokens;
  batch.length = block.samples.length;
  batch.finished = block.samples.finished;
  for (std::size_t i = 0; i < batch.length.size(); ++i) {
    batch.prompt_id.push_back(block.prompts.id[i / 4]);
    batch.sample.push_back(static_cast<std::int32_t>(i % 4));
    batch.weights_version.push_back(3);
    batch.attempt.push_back(1);
    batch.source.push_back((block.prompts.id[i / 4] + static_cast<std::int64_t>(i % 4)) % 7 == 6 ? 1 : 0);
    for (std::size_t k = 0; k < t; ++k)
      batch.logp_behavior.push_back(k < static_cast<std::size_t>(batch.length[i]) ? -0.25f * static_cast<float>(k + 1)
                                                                                  : std::nanf(""));
  }
  if (stage == RolloutStage::sampled) return batch;
  batch.reward = block.rewards.at("main");
  if (stage == RolloutStage::scored) return batch;
  for (auto* column : {&batch.logp_reference, &batch.kl, &batch.entropy, &batch.advantage})
    *column = batch.logp_behavior;
  batch.log_f = batch.reward;
  batch.at_floor.assign(batch.reward.size(), 1);
  return batch;
}

inline EvalFile example_eval() {
  EvalFile eval;
  eval.header.provenance = example_pool_header().provenance;
  eval.header.provenance.pool_sha256 = std::string(64, 'e');
  eval.header.method = "vbon";
  eval.header.n = 4;
  eval.header.beta = 1.0 / 3;
  eval.header.training_seed = 1;
  eval.header.evaluation_seed = 2;
  eval.header.bootstrap_seed = 3;
  eval.header.temperature = 0.7;
  eval.header.checkpoint_sha256 = std::string(64, 'f');
  eval.header.checkpoint_step = 32;
  eval.header.eos_ids = {kEos};
  eval.block = example_block(0, 3);
  eval.kl.assign(12, 0.5f);
  eval.win = {0.25, 0.5, 1.0};
  eval.bon = {{1, 2, 4}, {0, 0.19, 0.64}, {0.5, 0.66, 0.8}, {-1, -0.9, -0.7}, {0.01, 0.02, 0.03}};
  eval.summary = {{"win", 0.58}, {"kl", 0.5}, {"evaluator", std::nan("")}};
  return eval;
}

}  // namespace vbon
