// Estimates against numbers worked out by hand for a small model, and against files that the store writes.
#include "vbon/train/run_plan.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>

#include "train/plan_shapes.hpp"
#include "unit/train/plan_examples.hpp"
#include "vbon/base/error.hpp"
#include "vbon/store/rollouts.hpp"

namespace vbon {
namespace {

using test::small_inputs;
using test::small_settings;
using test::tiny_llama;
using testing::HasSubstr;

TEST(RunPlan, CutsAStepAsTheLoopDoes) {
  const RunPlan plan = plan_run(small_settings(), small_inputs(), std::nullopt);
  const BatchPlan& b = plan.batch;
  EXPECT_EQ(b.sequences, 40);
  EXPECT_EQ(b.tokens, 200);
  EXPECT_EQ(b.chunks, 4);  // of 3, 3, 3 and 1 prompts
  EXPECT_EQ(b.chunk_sequences, 12);
  EXPECT_EQ(b.rollout_chunks, 2);  // two ranks
  EXPECT_EQ(b.rollout_sequences, 24);
  EXPECT_EQ(b.scorer_chunks, 4);  // one rank
  EXPECT_EQ(b.scorer_sequences, 40);
  EXPECT_EQ(b.minibatch_sequences, 14);  // 13, 13, 14
  EXPECT_EQ(b.updates, 6);
  EXPECT_EQ(b.learner_sequences, 7);  // of the pool's 20 over 3 learners; of a minibatch 5
  EXPECT_EQ(b.micro_batches, 2);
  EXPECT_EQ(b.micro_batch_sequences, 4);
  EXPECT_EQ(b.online_steps, 6);
  EXPECT_EQ(b.pool_updates, 4);
  EXPECT_EQ(b.run_updates, 6 * 6 + 4);
  EXPECT_EQ(b.run_episodes, 6 * 40 + 4 * 20);
  EXPECT_EQ(b.run_tokens, (6 * 40 + 4 * 20) * 5);
  EXPECT_EQ(plan.threads, 2);  // six cores, at most three ranks at work at once
}

TEST(RunPlan, CountsFiles) {
  const RunPlan plan = plan_run(small_settings(), small_inputs(), std::nullopt);
  const FilePlan& f = plan.files;
  EXPECT_EQ(f.chunk_files, 8);
  EXPECT_EQ(f.step_operations, 4 * 8 + 2);
  EXPECT_EQ(f.steps_kept, 6);
  EXPECT_EQ(f.checkpoints_written, 4);  // after 3, 6, 9 and 10 steps
  EXPECT_EQ(f.checkpoints_kept, 2);
  EXPECT_EQ(f.checkpoint_files, 9);  // 2 of the tokenizer, 3 of the policy, 2 of the state, plan and manifest
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
  spec.hidden_size = 4096, spec.num_heads = 32, spec.num_kv_heads = 8, spec.head_dim = 128,
  spec.intermediate_size = 14336;
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
  inputs.topology = comm::Topology::uniform(8, 8, 8);
  const FilePlan of_few = plan_run(s, inputs, std::nullopt).files;
  EXPECT_EQ(plan.files.chunk_files, of_few.chunk_files);
  EXPECT_EQ(plan.files.step_operations, of_few.step_operations);
  EXPECT_GT(plan.files.chunk_bytes, 0);
  EXPECT_GT(plan.files.gradient_bytes, of_few.gradient_bytes);
  EXPECT_TRUE(plan.time.overlapped);
}

TEST(RunPlan, PadsTextsAsTheScorerDoes) {
  EncoderSpec encoder{.model_type = "bert",
                      .vocab_size = 50,
                      .hidden_size = 8,
                      .num_layers = 2,
                      .num_heads = 2,
                      .intermediate_size = 32,
                      .max_positions = 40,
                      .num_token_types = 2,
                      .pooling = Pooling::mean,
                      .label_names = {"0", "1"}};
  RewardConfig config{.max_length = 256};
  EXPECT_EQ(padded_tokens(config, encoder.max_positions, 17), 32);
  EXPECT_EQ(padded_tokens(config, encoder.max_positions, 39), 40);  // the encoder's positions
  config.max_length = 20;
  EXPECT_EQ(padded_tokens(config, encoder.max_positions, 39), 20);
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
  EXPECT_THAT(message(small_settings(), small_inputs(5)),
              HasSubstr("6 ranks (2 rollout + 1 scorer + 3 learner), but there are 5"));
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
  EXPECT_THAT(plan_run(s, inputs, std::nullopt).notes,
              testing::Contains(HasSubstr("reward: its folder is not there yet")));
}

}  // namespace
}  // namespace vbon
