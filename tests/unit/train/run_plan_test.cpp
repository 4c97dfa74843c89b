// Estimates against numbers worked out by hand for a small model, against files that the store writes, and against what
// LibTorch really allocates.
#include "vbon/train/run_plan.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/randint.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <unordered_map>

#include "train/plan_shapes.hpp"
#include "vbon/base/error.hpp"
#include "vbon/model/encoder_weights.hpp"
#include "vbon/model/hf_weights.hpp"
#include "vbon/model/kv_cache.hpp"
#include "vbon/model/vocab_head.hpp"
#include "vbon/store/rollouts.hpp"
#include "vbon/train/batch_pass.hpp"
#include "vbon/train/learner.hpp"

namespace vbon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// D 8, 2 heads of 4 that share one key head, F 16, V 100, tied: a block has
//   2 x 8 norms + 8 x (8 + 2 x 4) qkv + 8 x 8 out + 8 x 32 gate, up + 16 x 8 down = 16 + 128 + 64 + 256 + 128 = 592
LmSpec tiny_llama(std::int64_t layers = 3) {
  LmSpec s;
  s.model_type = "llama";
  s.vocab_size = 100, s.hidden_size = 8, s.num_layers = layers, s.num_heads = 2, s.num_kv_heads = 1, s.head_dim = 4;
  s.intermediate_size = 16, s.max_positions = 64;
  s.gated_mlp = s.tied_embeddings = true;
  s.rope.dims = 4;
  return s;
}

Settings small_settings() {
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

PlanInputs small_inputs(int ranks = 6, LmSpec model = tiny_llama()) {
  return {.topology = comm::Topology::uniform(ranks, 0, 0), .cores_per_node = 6, .model = std::move(model), .tokenizer_files = 2,
          .tokenizer_bytes = 1000, .num_prompts = 50, .prompt_tokens = 4, .longest_prompt = 7, .process_bytes = 1'000'000};
}

std::map<std::string, std::int64_t> bytes_by_name(const RoleMemory& role) {
  std::map<std::string, std::int64_t> bytes;
  for (const MemoryItem& item : role.items) bytes[item.name] = item.bytes;
  return bytes;
}

TEST(RunPlan, CutsAStepAsTheLoopDoes) {
  const RunPlan plan = plan_run(small_settings(), small_inputs(), std::nullopt);
  const BatchPlan& b = plan.batch;
  EXPECT_EQ(b.sequences, 40);
  EXPECT_EQ(b.tokens, 200);
  EXPECT_EQ(b.chunks, 4);             // of 3, 3, 3 and 1 prompts
  EXPECT_EQ(b.chunk_sequences, 12);
  EXPECT_EQ(b.rollout_chunks, 2);     // two ranks
  EXPECT_EQ(b.rollout_sequences, 24);
  EXPECT_EQ(b.scorer_chunks, 4);      // one rank
  EXPECT_EQ(b.scorer_sequences, 40);
  EXPECT_EQ(b.minibatch_sequences, 14);  // 13, 13, 14
  EXPECT_EQ(b.updates, 6);
  EXPECT_EQ(b.learner_sequences, 7);  // of the pool's 20 over 3 learners; of a minibatch 5
  EXPECT_EQ(b.micro_batches, 2);
  EXPECT_EQ(b.micro_batch_sequences, 4);
  EXPECT_EQ(b.online_steps, 6);
  EXPECT_EQ(b.regression_updates, 4);
  EXPECT_EQ(b.run_updates, 6 * 6 + 4);
  EXPECT_EQ(b.run_episodes, 6 * 40 + 4 * 20);
  EXPECT_EQ(b.run_tokens, (6 * 40 + 4 * 20) * 5);
  EXPECT_EQ(plan.threads, 2);  // six cores, at most three ranks at work at once
}

TEST(RunPlan, CountsModelMemoryByHand) {
  const RunPlan plan = plan_run(small_settings(), small_inputs(), std::nullopt);
  EXPECT_EQ(plan.parameters, 3 * 592 + 8 + 800);
  EXPECT_EQ(plan.trained, 592 + 8);  // the last block and the last norm: the head is the frozen embedding
  EXPECT_EQ(plan.critic, 0);
  ASSERT_EQ(plan.memory.roles.size(), 3u);
  const auto rollout = bytes_by_name(plan.memory.roles[0]);
  EXPECT_EQ(rollout.at("reference weights"), 4 * 2584);
  EXPECT_EQ(rollout.at("trained copy"), 4 * 600);
  EXPECT_EQ(rollout.at("KV cache of sampling.slots"), 2 * 3 * 6 * 4 * 4 * 4);  // k and v, layers, slots, K d, T - 1, float
  EXPECT_EQ(rollout.at("KV cache of prompts"), 2 * 3 * 3 * 4 * 7 * 4);         // 3 prompts of 7 tokens
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

TEST(RunPlan, AddsTheLargestPhaseToWhatIsAlwaysHeld) {
  const RunPlan plan = plan_run(small_settings(), small_inputs(), std::nullopt);
  std::int64_t node = 0;
  for (const RoleMemory& role : plan.memory.roles) {
    std::map<Held, std::int64_t> sums;
    for (const MemoryItem& item : role.items) sums[item.held] += item.bytes;
    std::int64_t largest = 0;
    for (const auto& [held, bytes] : sums) largest = held == Held::always ? largest : std::max(largest, bytes);
    EXPECT_EQ(role.host, sums[Held::always] + largest) << role.roles.text();
    EXPECT_TRUE(std::is_sorted(role.items.begin(), role.items.end(), [](const auto& a, const auto& b) { return a.bytes > b.bytes; }));
    node += role.num_ranks * role.host;
  }
  EXPECT_EQ(plan.memory.fullest_node, node);
}

TEST(RunPlan, CountsCriticsAndWholeModels) {
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
TEST(RunPlan, TrainedSizesAreThoseOfTheLearner) {
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
  llama.hidden_size = 64, llama.head_dim = 16, llama.num_heads = 4, llama.num_kv_heads = 2, llama.intermediate_size = 160;
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

TEST(RunPlan, SavedActivationsAreThoseThatLibTorchKeeps) {
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
TEST(RunPlan, LearningStaysWithinItsMemory) {
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
    const auto learner = make_learner(reference, s);
    std::vector<std::int32_t> prompt(12, 3), response(16, 5);
    const std::vector<Sequence> sequences(16, Sequence{prompt, response});
    const std::int64_t before = CountingAllocator::live();
    CountingAllocator::reset();
    {
      BatchPass pass(reference, learner->policy, sequences, {1.0, s.train.micro_batch, s.train.reference_cache_mib});
      measure(pass, learner->policy, learner->critic, 0, 16, 16);
      std::vector<std::int64_t> all(16);
      for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int64_t>(i);
      for (const auto& group : pass.split(all)) {
        const BatchPass::Micro micro = pass.micro(group);
        const TokenStatistics stats = token_statistics(pass.policy_hidden(micro), learner->policy.model.head, micro.packed.targets,
                                                       1.0, pass.reference_logits(micro));
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

TEST(RunPlan, SamplingCachesHaveTheirSize) {
  const LmSpec spec = shapes().front().spec;
  const CausalLm model = random_causal_lm(spec, 3);
  const SuffixCache cache = make_suffix_cache(model, 6, 4);
  std::int64_t bytes = 0;
  for (const auto* tensors : {&cache.keys_t, &cache.values})
    for (const at::Tensor& tensor : *tensors) bytes += static_cast<std::int64_t>(tensor.nbytes());
  const auto rollout = bytes_by_name(plan_run(small_settings(), small_inputs(6, spec), std::nullopt).memory.roles[0]);
  EXPECT_EQ(rollout.at("KV cache of sampling.slots"), bytes);
}

TEST(RunPlan, CountsFiles) {
  const RunPlan plan = plan_run(small_settings(), small_inputs(), std::nullopt);
  const FilePlan& f = plan.files;
  EXPECT_EQ(f.chunk_files, 8);
  EXPECT_EQ(f.steps_kept, 6);
  EXPECT_EQ(f.checkpoints_written, 4);  // after 3, 6, 9 and 10 steps
  EXPECT_EQ(f.checkpoints_kept, 2);
  EXPECT_EQ(f.checkpoint_files, 9);     // 2 of the tokenizer, 3 of the policy, 2 of the state, plan and manifest
  EXPECT_NEAR(static_cast<double>(f.checkpoint_bytes), 4 * 2584 + 8 * 600 + 1000, 8192);
  EXPECT_EQ(f.publish_bytes, 2 * 4 * 600);
  EXPECT_EQ(f.gradient_bytes, 2 * 2 * 4 * 600 * 6);
  Settings s = small_settings();
  s.rollouts.keep = Keep::last_of(3);
  EXPECT_EQ(plan_run(s, small_inputs(), std::nullopt).files.steps_kept, 3);
}

TEST(RunPlan, RolloutFilesHaveTheSizeOfTheStores) {
  Settings s = small_settings();
  s.train.prompts_per_step = 250;
  s.sampling.max_new_tokens = 30;
  PlanInputs inputs = small_inputs();
  inputs.num_prompts = 1000;
  RolloutBatch batch;
  batch.max_new_tokens = 30;
  for (std::int64_t i = 0; i < 1000; ++i) {
    batch.prompt_id.push_back(i / 4);
    batch.sample.push_back(static_cast<std::int32_t>(i % 4));
    batch.weights_version.push_back(0);
    batch.attempt.push_back(1);
    batch.source.push_back(0);
    batch.length.push_back(30);
    batch.finished.push_back(0);
    batch.reward.push_back(0.5f);
  }
  batch.tokens.assign(30'000, 7);
  batch.logp_behavior.assign(30'000, -1.0f);
  batch.logp_reference = batch.kl = batch.entropy = batch.advantage = batch.returns = batch.logp_behavior;
  const auto path = std::filesystem::temp_directory_path() / fmt::format("vbon-run-plan-{}.h5", ::getpid());
  write_rollouts(path, RolloutStage::learned, {.step = 1}, batch);
  const auto size = static_cast<double>(std::filesystem::file_size(path));
  std::filesystem::remove(path);
  EXPECT_NEAR(size / static_cast<double>(plan_run(s, inputs, std::nullopt).files.step_bytes), 1.0, 0.03);
}

// Round numbers: 1 GFLOP/s everywhere, 1 GB/s.
TEST(RunPlan, TimesFollowFromWorkAndRates) {
  Settings s = small_settings();
  s.train.warm_start = 0;
  s.cluster.roles = {};
  const RunPlan plan = plan_run(s, small_inputs(1), ComputeRates{1e9, 1e9, 1e9});
  const TimePlan& t = plan.time;
  // A block's matrices: 8 x (8 + 8) qkv, 8 x 8 out, 8 x 32 and 16 x 8: 576 products; head 800; causal attention of n
  // rows in a block: 2 x 8 x n^2 flops.
  const double block = 2 * 576, head = 2 * 800, p = 4, r = 5, n = p + r - 1;
  const double prompts = 3 * block * p + 3 * 16 * p * p + head;
  const double token = 3 * block + head + 3 * 4 * 8 * (p + r / 2);
  EXPECT_NEAR(t.generate.flops, 4 * (3 * prompts + 12 * 4 * token), 1);
  const double one = block * n + 16 * n * n;  // one block over a sequence
  EXPECT_NEAR(t.prepare.flops, 40 * (2 * one + 2 * one + 2 * head * r), 1);
  EXPECT_NEAR(t.update.flops, 6 * 14 * (3 * one + 2 * head * r), 1);  // the head is frozen: 2 of 3 parts
  EXPECT_DOUBLE_EQ(t.update.bytes, 6 * 36 * 600);
  EXPECT_NEAR(t.update.seconds, (t.update.flops + t.update.bytes) / 1e9, 1e-12);
  EXPECT_NEAR(t.step_seconds, t.generate.seconds + t.prepare.seconds + t.update.seconds, 1e-12);
  EXPECT_NEAR(t.run_seconds, 10 * t.step_seconds, 1e-9);
  EXPECT_FALSE(t.overlapped);
}

// notes on speed: training costs 6 flops a parameter and token, forward 2, where attention is small beside.
TEST(RunPlan, AgreesWithTheRulesOfThumb) {
  LmSpec spec = tiny_llama(24);
  spec.hidden_size = 2048, spec.num_heads = spec.num_kv_heads = 16, spec.head_dim = 128, spec.intermediate_size = 8192;
  spec.vocab_size = 50'000, spec.tied_embeddings = false, spec.max_positions = 2048;
  Settings s = small_settings();
  s.train.layers = {0};
  s.train.warm_start = 0;
  s.ppo.epochs = 1;
  s.train.minibatches = 1;
  s.ppo.kl_form = KlForm::penalty;
  s.cluster.roles = {};
  s.sampling.max_new_tokens = 100;
  PlanInputs inputs = small_inputs(1, spec);
  inputs.prompt_tokens = 1;
  inputs.longest_prompt = 1;
  const RunPlan plan = plan_run(s, inputs, std::nullopt);
  const double products = static_cast<double>(plan.parameters - spec.vocab_size * spec.hidden_size), tokens = 40 * 100;
  EXPECT_NEAR(plan.time.update.flops / (6 * products * tokens), 1.0, 0.02);
  EXPECT_NEAR(plan.time.prepare.flops / (4 * products * tokens), 1.0, 0.02);
  EXPECT_NEAR(plan.time.generate.flops / (2 * products * tokens), 1.0, 0.25);  // chunks of 3 prompts: 12 of 10
  EXPECT_FALSE(plan.time.estimated);
}

TEST(RunPlan, PlansAThousandRanksAtOnce) {
  LmSpec spec = tiny_llama(32);
  spec.hidden_size = 4096, spec.num_heads = 32, spec.num_kv_heads = 8, spec.head_dim = 128, spec.intermediate_size = 14336;
  spec.vocab_size = 128'256, spec.tied_embeddings = false, spec.max_positions = 8192;
  Settings s = small_settings();
  s.train.prompts_per_step = 8192;
  s.train.chunk_prompts = 4;
  s.train.micro_batch = 2;
  s.train.layers = {8};
  s.model.dtype = Dtype::bf16;
  s.cluster.roles = {};
  PlanInputs inputs = small_inputs(1, spec);
  inputs.topology = comm::Topology::uniform(1024, 8, 8);
  inputs.num_prompts = 100'000;
  const auto start = std::chrono::steady_clock::now();
  const RunPlan plan = plan_run(s, inputs, ComputeRates{1e14, 4e14, 4e12});
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 0.5);
  EXPECT_EQ(plan.placement.ranks.size(), 1024u);
  EXPECT_NEAR(static_cast<double>(plan.parameters), 8.03e9, 0.01e9);
  int ranks = 0;
  for (const RoleMemory& role : plan.memory.roles) {
    ranks += role.num_ranks;
    EXPECT_EQ(role.device > 0, !role.roles.has(comm::Role::scorer)) << "a program of the user's scores";
    EXPECT_LE(role.device, plan.memory.fullest_device);
  }
  EXPECT_EQ(ranks, 1024);
  EXPECT_EQ(plan.files.chunk_files, 2 * 2048);  // by chunks, whatever the ranks
  EXPECT_TRUE(plan.time.overlapped);
}

TEST(RunPlan, PadsTextsAsTheScorerDoes) {
  EncoderSpec encoder{.model_type = "bert", .vocab_size = 50, .hidden_size = 8, .num_layers = 2, .num_heads = 2,
                      .intermediate_size = 32, .max_positions = 40, .num_token_types = 2, .pooling = Pooling::mean,
                      .label_names = {"0", "1"}};
  RewardConfig config{.max_length = 256};
  EXPECT_EQ(padded_tokens(config, encoder, 17), 32);
  EXPECT_EQ(padded_tokens(config, encoder, 39), 40);  // the encoder's positions
  config.max_length = 20;
  EXPECT_EQ(padded_tokens(config, encoder, 39), 20);
  // Embeddings 92 x 8 and a norm, blocks of 4 x 72 + 9 x 32 + 33 x 8 and two norms, BERT's pooler, two labels.
  EXPECT_EQ(encoder_parameters(encoder), 92 * 8 + 16 + 2 * (288 + 288 + 264 + 32) + 72 + 18);
}

TEST(RunPlan, NamesWhatDoesNotFit) {
  const auto message = [](const Settings& s, const PlanInputs& inputs) -> std::string {
    try {
      plan_run(s, inputs, std::nullopt);
      return "";
    } catch (const UserError& e) {
      return e.what();
    }
  };
  EXPECT_THAT(message(small_settings(), small_inputs(5)), HasSubstr("6 ranks (2 rollout + 1 scorer + 3 learner), but there are 5"));
  Settings s = small_settings();
  s.train.layers = {4};
  EXPECT_THAT(message(s, small_inputs()), HasSubstr("last 4 asks for more blocks than the model's 3"));
  s = small_settings();
  s.sampling.max_new_tokens = 60;
  EXPECT_THAT(message(s, small_inputs()), HasSubstr("64 positions"));
  s = small_settings();
  s.train.prompts_per_step = 51;
  EXPECT_THAT(message(s, small_inputs()), HasSubstr("holds 50 prompts"));
  s = small_settings();
  s.train.chunk_prompts = 5;
  EXPECT_THAT(message(s, small_inputs()), HasSubstr("3 learners share a step of 2 chunks"));
}

TEST(RunPlan, SaysWhatItLeavesOut) {
  Settings s = small_settings();
  PlanInputs inputs = small_inputs();
  inputs.num_prompts = 0;
  EXPECT_THAT(plan_run(s, inputs, std::nullopt).notes, testing::Contains(HasSubstr("prompts.train cannot be read")));
  EXPECT_THAT(plan_run(s, inputs, std::nullopt).notes, testing::Contains(HasSubstr("your program")));
  s.reward.kind = RewardKind::classifier;
  EXPECT_THAT(plan_run(s, inputs, std::nullopt).notes, testing::Contains(HasSubstr("reward: its folder is not there yet")));
}

}  // namespace
}  // namespace vbon
