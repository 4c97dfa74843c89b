// What a configuration will take, before anything is loaded: who does what, how a step is cut into pieces, memory of
// each kind of rank, files, and time. Pure functions of configuration, shapes and rates; nothing here reads a file.
//
// Sizes are upper bounds: every response is taken to be sampling.max_new_tokens long.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vbon/comm/placement.hpp"
#include "vbon/model/encoder.hpp"
#include "vbon/model/lm_spec.hpp"
#include "vbon/train/settings.hpp"

namespace vbon {

// A reward as far as its cost goes.
struct PlannedReward {
  std::optional<EncoderSpec> encoder;  // of a classifier whose folder is known: this
  std::optional<LmSpec> lm;            // or this
  std::int64_t file_bytes = 0;         // an n-gram model's files
};

// What plans need beside the configuration.
struct PlanInputs {
  comm::Topology topology;
  int cores_per_node = 1;
  LmSpec model;                                           // of the reference
  std::int64_t tokenizer_files = 1, tokenizer_bytes = 0;  // they go along with every checkpoint
  std::int64_t num_prompts = 0;                           // in prompts.train; 0: not known
  std::int64_t num_eval_prompts = 0;
  double prompt_tokens = 0;         // mean of prompts.train, start token included
  std::int64_t longest_prompt = 0;  // tokens
  std::int64_t process_bytes = 0;   // the program and its libraries, a rank
  PlannedReward reward, evaluator;
};

// One step cut into pieces, and the whole run. "Most" is what the busiest rank of a role does.
struct BatchPlan {
  std::int64_t prompts = 0, samples = 0, sequences = 0, tokens = 0;  // of an online step; tokens drawn at most
  std::int64_t drawn = 0;                                            // a prompt: its samples and those of the anchor
  std::int64_t chunks = 0, chunk_prompts = 0, chunk_sequences = 0;
  std::int64_t epochs = 0, minibatches = 0, minibatch_sequences = 0, updates = 0;
  std::int64_t rollout_chunks = 0, scorer_chunks = 0;              // most, a step
  std::int64_t rollout_sequences = 0, scorer_sequences = 0;        // most, a step
  std::int64_t learner_sequences = 0;                              // most, an update
  std::int64_t micro_batches = 0, micro_batch_sequences = 0;       // most, an update
  std::int64_t steps = 0, online_steps = 0, pool_updates = 0;      // of the run
  std::int64_t pool_samples = 0;                                   // of an update on the pool
  std::int64_t run_updates = 0, run_episodes = 0, run_tokens = 0;  // episodes: sequences learned from
};

// When memory is held: always, or in one phase; phases follow each other on a rank.
enum class Held { always, start, generate, score, learn };
std::string_view name_of(Held held);

struct MemoryItem {
  std::string name;
  std::int64_t bytes = 0;
  Held held = Held::always;
  bool on_device = false;  // in GPU memory
};

// All ranks with the same roles need the same memory.
struct RoleMemory {
  comm::RoleSet roles;
  int num_ranks = 0;
  std::vector<MemoryItem> items;      // biggest first
  std::int64_t host = 0, device = 0;  // what is always held and the largest phase
};

struct MemoryPlan {
  std::vector<RoleMemory> roles;                      // in the order of their first ranks
  std::int64_t fullest_node = 0, fullest_device = 0;  // all their ranks together; host and GPU memory
  int fullest_node_index = 0;
};

struct FilePlan {
  std::int64_t chunk_files = 0, chunk_bytes = 0;  // of one step, gone when it is done
  // Of one step, all ranks together, whatever their number: files made, opened to be read, renamed and removed.
  std::int64_t step_operations = 0;
  std::int64_t step_bytes = 0;  // rollouts/step-%08d.h5
  std::int64_t steps_kept = 0;
  std::int64_t checkpoint_files = 0, checkpoint_bytes = 0, checkpoints_kept = 0, checkpoints_written = 0;
  std::int64_t evaluations = 0, evaluation_bytes = 0;  // one evaluation's file
  std::int64_t pool_bytes = 0, eval_pool_bytes = 0;    // 0: not known
  std::int64_t run_bytes = 0;      // of the run folder at its fullest: with a checkpoint being written
  std::int64_t total_bytes = 0;    // with the pools
  std::int64_t written_bytes = 0;  // over the whole run, deleted files included
  // Between ranks, a step: weights to rollout ranks, gradients among learners (a ring's share of each).
  std::int64_t publish_bytes = 0, gradient_bytes = 0;
};

// How fast a rank computes with the threads that it will have.
struct ComputeRates {
  double decode_flops = 0;  // a second, in products as narrow as a decoding step's
  double learn_flops = 0;   // a second, in products as wide as a micro-batch's
  double bytes = 0;         // read a second: weights in decoding, the optimiser's state
  bool busy = false;        // measured while others were at work: one thread was faster than all, and stands for them
};

// The work of the busiest rank in one phase.
struct Work {
  double flops = 0;
  double bytes = 0;    // of memory that must pass beside the products
  double seconds = 0;  // by the rates; 0 without
};

struct TimePlan {
  bool estimated = false;                 // false: no rates, only work
  bool overlapped = false;                // scorers work while rollout ranks sample
  Work generate, score, prepare, update;  // of an online step
  Work pool_update;                       // of an update on the pool
  Work evaluation;                        // of one evaluation
  Work pool;                              // `vbon pool` of the training prompts, all ranks at it
  double step_seconds = 0, run_seconds = 0;
};

struct RunPlan {
  comm::Placement placement;
  int threads = 1;                                       // a rank
  std::int64_t parameters = 0, trained = 0, critic = 0;  // numbers of the model, of its trained copy, of the critic
  BatchPlan batch;
  MemoryPlan memory;
  FilePlan files;
  TimePlan time;
  std::vector<std::string> notes;  // what was assumed or left out, for people
};

// UserError where roles do not fit the ranks, `last K` exceeds the model, or prompts do not fit its positions.
RunPlan plan_run(const Settings& settings, const PlanInputs& inputs, const std::optional<ComputeRates>& rates);

// Chunks of an online step; 0: the run has none (offline methods).
std::int64_t online_chunks(const Settings& settings);

}  // namespace vbon
