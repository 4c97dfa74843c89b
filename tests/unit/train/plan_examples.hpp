// A small model and a small run, whose plan can be worked out by hand.
#pragma once

#include <map>
#include <string>

#include "vbon/train/run_plan.hpp"

namespace vbon::test {

// D 8, 2 heads of 4 that share one key head, F 16, V 100, tied: a block has
//   2 x 8 norms + 8 x (8 + 2 x 4) qkv + 8 x 8 out + 8 x 32 gate, up + 16 x 8 down = 16 + 128 + 64 + 256 + 128 = 592
inline LmSpec tiny_llama(std::int64_t layers = 3) {
  LmSpec s;
  s.model_type = "llama";
  s.vocab_size = 100, s.hidden_size = 8, s.num_layers = layers, s.num_heads = 2, s.num_kv_heads = 1, s.head_dim = 4;
  s.intermediate_size = 16, s.max_positions = 64;
  s.gated_mlp = s.tied_embeddings = true;
  s.rope.dims = 4;
  return s;
}

inline Settings small_settings() {
  Settings s;
  s.run.seed = 1;
  s.train.layers = {1};
  s.train.steps = 10;
  s.train.warm_start = 4;
  s.train.prompts_per_step = 10;
  s.train.samples_per_prompt = 4;
  s.train.chunk_prompts = 3;
  s.train.minibatches = 3;
  s.train.micro_batch = 4;
  s.regression.batch = 20;
  s.ppo.epochs = 2;
  s.ppo.baseline = Baseline::rloo;
  s.ppo.kl_form = KlForm::exact;
  s.sampling.max_new_tokens = 5;
  s.sampling.slots = 6;
  s.pool.samples = 8;
  s.pool.path = "pool.h5";
  s.reward.kind = RewardKind::exec;
  s.reward.command = {"true"};
  s.cluster.roles = comm::Roles::parse("{rollout: 2, scorer: 1, learner: 3}");
  s.checkpoint.every = 3;
  s.checkpoint.keep = Keep::last_of(2);
  return s;
}

inline PlanInputs small_inputs(int ranks = 6, LmSpec model = tiny_llama()) {
  return {.topology = comm::Topology::uniform(ranks, 0, 0),
          .cores_per_node = 6,
          .model = std::move(model),
          .tokenizer_files = 2,
          .tokenizer_bytes = 1000,
          .num_prompts = 50,
          .prompt_tokens = 4,
          .longest_prompt = 7,
          .process_bytes = 1'000'000};
}

inline std::map<std::string, std::int64_t> bytes_by_name(const RoleMemory& role) {
  std::map<std::string, std::int64_t> bytes;
  for (const MemoryItem& item : role.items) bytes[item.name] = item.bytes;
  return bytes;
}

}  // namespace vbon::test
