// Estimates of memory against numbers worked out by hand, and against what LibTorch really allocates.
#include <ATen/TensorOperators.h>
#include <ATen/ops/randint.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <unordered_map>

#include "train/plan_shapes.hpp"
#include "unit/train/plan_examples.hpp"
#include "vbon/model/hf_weights.hpp"
#include "vbon/model/kv_cache.hpp"
#include "vbon/model/vocab_head.hpp"
#include "vbon/train/batch_pass.hpp"
#include "vbon/train/learner.hpp"

namespace vbon {
namespace {

using test::bytes_by_name;
using test::small_inputs;
using test::small_settings;
using test::tiny_llama;

TEST(PlanMemory, CountsModelMemoryByHand) {
  const RunPlan plan = plan_run(small_settings(), small_inputs(), std::nullopt);
  EXPECT_EQ(plan.parameters, 3 * 592 + 8 + 800);
  EXPECT_EQ(plan.trained, 592 + 8);  // the last block and the last norm: the head is the frozen embedding
  EXPECT_EQ(plan.critic, 0);
  ASSERT_EQ(plan.memory.roles.size(), 3u);
  const auto rollout = bytes_by_name(plan.memory.roles[0]);
  EXPECT_EQ(rollout.at("reference weights"), 4 * 2584);
  EXPECT_EQ(rollout.at("trained copy"), 4 * 600);
  EXPECT_EQ(rollout.at("KV cache of sampling.slots"),
            2 * 3 * 6 * 4 * 16 * 4);  // k and v, layers, slots, K d, T - 1 in whole lanes of 16, float
  EXPECT_EQ(rollout.at("KV cache of prompts"), 2 * 3 * 3 * 4 * 16 * 4);  // 3 prompts of 7 tokens, 16 in whole lanes
  EXPECT_EQ(rollout.at("logits of a decoding step"), (3 + 6) * 100 * 4);
  const auto learner = bytes_by_name(plan.memory.roles[2]);
  EXPECT_EQ(learner.at("gradients"), 4 * 600);
  EXPECT_EQ(learner.at("AdamW moments"), 8 * 600);
  EXPECT_EQ(learner.at("frozen trunk's rows"), 40 * (7 + 5 - 1) * 8 * 4);
  EXPECT_EQ(learner.at("reference logits (train.reference_cache_mib)"), 40 * 5 * 100 * 4);
  EXPECT_EQ(learner.at("logits of a micro-batch"), 2 * 4 * 5 * 100 * 4);
  EXPECT_EQ(learner.at("pool and log F table"), 50 * 8 * (4 * 5 + 9 + 8));
  EXPECT_FALSE(learner.contains("KV cache of sampling.slots"));
  EXPECT_FALSE(learner.contains("gradient of the head, before it is added"));
}

TEST(PlanMemory, AddsTheLargestPhaseToWhatIsAlwaysHeld) {
  const RunPlan plan = plan_run(small_settings(), small_inputs(), std::nullopt);
  std::int64_t node = 0;
  for (const RoleMemory& role : plan.memory.roles) {
    std::map<Held, std::int64_t> sums;
    for (const MemoryItem& item : role.items) sums[item.held] += item.bytes;
    std::int64_t largest = 0;
    for (const auto& [held, bytes] : sums) largest = held == Held::always ? largest : std::max(largest, bytes);
    EXPECT_EQ(role.host, sums[Held::always] + largest) << role.roles.text();
    EXPECT_TRUE(std::is_sorted(role.items.begin(), role.items.end(),
                               [](const auto& a, const auto& b) { return a.bytes > b.bytes; }));
    node += role.num_ranks * role.host;
  }
  EXPECT_EQ(plan.memory.fullest_node, node);
}

TEST(PlanMemory, CountsLanguageModelsThatScore) {
  Settings s = small_settings();
  s.reward = {.path = "model", .batch = 4};
  PlanInputs inputs = small_inputs();
  inputs.reward.lm = tiny_llama(2);
  const auto scorer = bytes_by_name(plan_run(s, inputs, std::nullopt).memory.roles[1]);
  EXPECT_EQ(scorer.at("reward model"), 4 * (2 * 592 + 8 + 800));
  // 4 rows of 7 + 5 + 2 tokens, padded to 16; 3 x 8 and, of the MLP, 4 x 16 numbers a token
  EXPECT_EQ(scorer.at("reward model's activations"), 4 * 16 * (24 + 64) * 4);
}

TEST(PlanMemory, CountsWhatTheClusterSectionAdds) {
  Settings s = small_settings();
  s.cluster.roles = comm::Roles::parse("{rollout: 1, scorer: 1, learner: 4}");
  s.cluster.shard_optimizer = true;
  s.cluster.lag = 1;
  s.run.reduce = Reduce::fixed;
  PlanInputs inputs = small_inputs();
  inputs.topology = comm::Topology::uniform(6, 0, 0);
  const RunPlan plan = plan_run(s, inputs, std::nullopt);
  const auto learner = bytes_by_name(plan.memory.roles[2]);
  EXPECT_EQ(learner.at("AdamW moments"), 8 * 600 / 4);
  EXPECT_EQ(learner.at("sums of parts (run.reduce: fixed)"), 3 * 4 * 600);
  EXPECT_EQ(learner.at("weights that are behind (cluster.lag)"), 2 * 4 * 600);
}

TEST(PlanMemory, CountsCriticsAndWholeModels) {
  Settings s = small_settings();
  s.ppo.baseline = Baseline::critic_model;
  EXPECT_EQ(plan_run(s, small_inputs(), std::nullopt).critic, 9 + 600);
  s.ppo.baseline = Baseline::critic_head;
  s.train.layers = {0};
  const RunPlan plan = plan_run(s, small_inputs(), std::nullopt);
  EXPECT_EQ(plan.trained, plan.parameters);
  EXPECT_EQ(plan.critic, 9);
  const auto learner = bytes_by_name(plan.memory.roles[2]);
  EXPECT_EQ(learner.at("AdamW moments"), 8 * (2584 + 9));
  EXPECT_EQ(learner.at("gradient of the head, before it is added"), 4 * 800);
  EXPECT_FALSE(learner.contains("frozen trunk's rows"));
}

// What the code itself trains, for every combination that changes it.
TEST(PlanMemory, TrainedSizesAreThoseOfTheLearner) {
  for (const bool tied : {true, false})
    for (const std::int64_t last : {0, 1, 2})
      for (const Baseline baseline : {Baseline::rloo, Baseline::critic_head, Baseline::critic_model}) {
        LmSpec spec = tiny_llama();
        spec.tied_embeddings = tied;
        Settings s = small_settings();
        s.train.layers = {last};
        s.ppo.baseline = baseline;
        const CausalLm reference = random_causal_lm(spec, 1);
        Policy policy = make_policy(reference, s.train.layers);
        Critic critic = make_critic(baseline, reference, s.train.layers);
        const auto count = [](const std::vector<NamedParameter>& parameters) {
          std::int64_t total = 0;
          for (const NamedParameter& p : parameters) total += p.tensor->numel();
          return total;
        };
        const ModelSizes sizes = model_sizes(s, spec);
        EXPECT_EQ(sizes.trained, count(trained_parameters(policy))) << tied << " last " << last;
        EXPECT_EQ(sizes.critic, count(trained_parameters(critic))) << tied << " last " << last;
      }
}

// Counts the bytes that tensors hold, now and at most.
class CountingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t n) override {
    void* const pointer = c10::alloc_cpu(n);
    if (pointer != nullptr) {
      const std::scoped_lock lock(mutex_);
      sizes_[pointer] = static_cast<std::int64_t>(n);
      live_ += static_cast<std::int64_t>(n);
      most_ = std::max(most_, live_);
    }
    return {pointer, pointer, &release, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t n) const override { default_copy_data(to, from, n); }

  static void reset() { most_ = live_; }
  static std::int64_t live() { return live_; }
  static std::int64_t most() { return most_; }

 private:
  static void release(void* pointer) {
    {
      const std::scoped_lock lock(mutex_);
      if (const auto found = sizes_.find(pointer); found != sizes_.end()) {
        live_ -= found->second;
        sizes_.erase(found);
      }
    }
    c10::free_cpu(pointer);
  }
  static inline std::mutex mutex_;
  static inline std::unordered_map<void*, std::int64_t> sizes_;
  static inline std::int64_t live_ = 0, most_ = 0;
};

class Counting {
 public:
  Counting() : before_(c10::GetCPUAllocator()) { c10::SetCPUAllocator(&counting_, 100); }
  ~Counting() { c10::SetCPUAllocator(before_, 100); }

 private:
  c10::Allocator* before_;
  static inline CountingAllocator counting_;  // tensors of LibTorch's own may outlive a test
};

struct Shape {
  const char* name;
  LmSpec spec;
};

// Wide enough that rows outweigh everything that is counted a tensor.
std::vector<Shape> shapes() {
  LmSpec llama = tiny_llama(4);
  llama.hidden_size = 64, llama.head_dim = 16, llama.num_heads = 4, llama.num_kv_heads = 2,
  llama.intermediate_size = 160;
  llama.rope.dims = 16;
  LmSpec own_keys = llama;
  own_keys.num_kv_heads = 4;
  LmSpec gpt2 = own_keys;
  gpt2.model_type = "gpt2";
  gpt2.norm = NormKind::layer, gpt2.activation = Activation::gelu_tanh;
  gpt2.gated_mlp = false, gpt2.learned_positions = true, gpt2.rope.dims = 0;
  gpt2.qkv_bias = gpt2.attention_out_bias = gpt2.mlp_bias = true;
  LmSpec neox = gpt2;
  neox.model_type = "gpt_neox";
  neox.activation = Activation::gelu, neox.learned_positions = false, neox.parallel_residual = true, neox.rope.dims = 4;
  neox.tied_embeddings = false;
  return {{"llama, shared keys", llama}, {"llama", own_keys}, {"gpt2", gpt2}, {"gpt_neox", neox}};
}

TEST(PlanMemory, SavedActivationsAreThoseThatLibTorchKeeps) {
  const Counting counting;
  for (const Shape& shape : shapes())
    for (const std::int64_t last : {0, 2}) {
      const CausalLm reference = random_causal_lm(shape.spec, 3);
      Policy policy = make_policy(reference, {last});
      FlatParameters parameters(trained_parameters(policy));
      tie_again(policy.model);
      constexpr std::int64_t kBatch = 8, kLength = 40;
      const at::Tensor positions = row_positions(kBatch, kLength, at::kCPU);
      const at::Tensor x = embed(reference, at::randint(100, {kBatch * kLength}, at::kLong), positions);
      const std::int64_t first = policy.first_trained_block, before = CountingAllocator::live();
      const at::Tensor out = run_blocks(policy.model, x, positions, first, shape.spec.num_layers,
                                        full_attention(shape.spec, kBatch, kLength));
      const double kept = static_cast<double>(CountingAllocator::live() - before);
      const double blocks = static_cast<double>(shape.spec.num_layers - first);
      const double estimated = static_cast<double>(kBatch * kLength * saved_numbers(shape.spec) * 4) * blocks;
      EXPECT_NEAR(kept / estimated, 1.0, 0.06) << shape.name << ", last " << last;
    }
}

// The peak of measuring and learning from a batch lies within what the plan says, and not far below.
TEST(PlanMemory, LearningStaysWithinItsMemory) {
  const Counting counting;
  for (const Shape& shape : shapes()) {
    Settings s = small_settings();
    s.train.layers = {2};
    s.train.micro_batch = 8;
    s.train.prompts_per_step = 4;
    s.train.warm_start = 0;
    s.sampling.max_new_tokens = 16;
    s.cluster.roles = {};
    PlanInputs inputs = small_inputs(1, shape.spec);
    inputs.longest_prompt = 12;
    const CausalLm reference = random_causal_lm(shape.spec, 3);
    comm::LocalCollectives local;
    const auto learner = make_learner(reference, s, local);
    // The plan knows no equal prompts, which would share their rows: an epoch may shuffle them apart.
    std::vector<std::vector<std::int32_t>> prompts;
    for (std::int32_t i = 0; i < 16; ++i) prompts.emplace_back(12, 3 + i);
    const std::vector<std::int32_t> response(16, 5);
    std::vector<Sequence> sequences;
    for (const auto& prompt : prompts) sequences.push_back({prompt, response});
    const std::int64_t before = CountingAllocator::live();
    CountingAllocator::reset();
    {
      BatchPass pass(reference, learner->policy, sequences, {1.0, s.train.micro_batch, s.train.reference_cache_mib});
      measure(pass, learner->policy, learner->critic, std::array{Share{0, 16}}, 16);
      std::vector<std::int64_t> all(16);
      for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int64_t>(i);
      for (const auto& group : pass.split(all)) {
        const BatchPass::Micro micro = pass.micro(group);
        const TokenStatistics stats = token_statistics(pass.policy_hidden(micro), learner->policy.model.head,
                                                       micro.packed.targets, 1.0, pass.reference_logits(micro));
        (stats.logp + stats.kl).sum().backward();
      }
    }
    const auto peak = static_cast<double>(CountingAllocator::most() - before);
    const RunPlan plan = plan_run(s, inputs, std::nullopt);
    double estimated = 0;
    for (const MemoryItem& item : plan.memory.roles.front().items)
      if (item.held == Held::learn) estimated += static_cast<double>(item.bytes);
    EXPECT_LE(peak, 1.05 * estimated) << shape.name;
    EXPECT_GE(peak, 0.6 * estimated) << shape.name;
  }
}

TEST(PlanMemory, SamplingCachesHaveTheirSize) {
  const LmSpec spec = shapes().front().spec;
  const CausalLm model = random_causal_lm(spec, 3);
  const SuffixCache cache = make_suffix_cache(model, 6, 4);
  std::int64_t bytes = 0;
  for (const auto* tensors : {&cache.keys_t, &cache.values})
    for (const at::Tensor& tensor : *tensors) bytes += static_cast<std::int64_t>(tensor.nbytes());
  const auto rollout = bytes_by_name(plan_run(small_settings(), small_inputs(6, spec), std::nullopt).memory.roles[0]);
  EXPECT_EQ(rollout.at("KV cache of sampling.slots"), bytes);
}

}  // namespace
}  // namespace vbon
