// Memory of a rank: what training_run, collect, batch_pass and the optimiser hold, by the same shapes.
#include <algorithm>
#include <iterator>
#include <map>

#include "train/plan_shapes.hpp"
#include "vbon/model/kv_cache.hpp"

namespace vbon {
namespace {

constexpr std::int64_t kFloat = 4;
constexpr std::int64_t kPrefillRows = 4096;  // of the sampler's passes over prompts

// A chunk of one collection as the sampler sees it.
struct Chunk {
  std::int64_t prompts = 0, samples = 0;
};

class MemoryOf {
 public:
  MemoryOf(const Settings& settings, const PlanInputs& inputs, const comm::Placement& placement, const BatchPlan& batch)
      : s_(settings), in_(inputs), batch_(batch), sizes_(model_sizes(settings, inputs.model)),
        learners_(std::ssize(placement.learners)), device_(inputs.topology.devices_per_node > 0) {}

  RoleMemory of(comm::RoleSet roles) {
    RoleMemory memory{.roles = roles};
    items_.clear();
    add("program and libraries", in_.process_bytes, Held::always, /*tensor=*/false);
    pools();
    const bool rollout = roles.has(comm::Role::rollout), learner = roles.has(comm::Role::learner);
    if (rollout || learner) models(learner);
    if (roles.has(comm::Role::scorer)) scorer();
    if (rollout) sampler();
    if (learner) learning();
    std::stable_sort(items_.begin(), items_.end(), [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
    memory.items = std::move(items_);
    memory.host = total(memory.items, false);
    memory.device = total(memory.items, true);
    return memory;
  }

 private:
  void add(std::string name, std::int64_t bytes, Held held, bool tensor = true) {
    if (bytes > 0) items_.push_back({std::move(name), bytes, held, tensor && device_});
  }

  static std::int64_t total(const std::vector<MemoryItem>& items, bool device) {
    std::map<Held, std::int64_t> sums;
    for (const MemoryItem& item : items)
      if (item.on_device == device) sums[item.held] += item.bytes;
    std::int64_t largest = 0;
    for (const auto& [held, bytes] : sums)
      if (held != Held::always) largest = std::max(largest, bytes);
    return sums[Held::always] + largest;
  }

  // Every rank reads the pools whole: tokens, lengths, flags, log-probabilities, rewards and their sorted copies.
  std::int64_t pool_bytes(std::int64_t prompts) const {
    const std::int64_t rewards = s_.evaluator.configured() ? 2 : 1;
    return prompts * s_.pool.samples * (kFloat * s_.sampling.max_new_tokens + 9 + rewards * 2 * kFloat);
  }
  void pools() {
    if (reads_pool(s_)) add("pool and log F table", pool_bytes(in_.num_prompts), Held::always, false);
    if (evaluates(s_)) add("evaluation pool", pool_bytes(in_.num_eval_prompts), Held::always, false);
  }

  void models(bool learner) {
    if (learner && batch_.pool_updates > 0)
      add("trunk's rows of the pool", kept_trunk_bytes(s_, in_), Held::always, false);
    add("reference weights", sizes_.parameters * sizes_.element_bytes, Held::always);
    add("trained copy", sizes_.trained * kFloat, Held::always);
    if (has_anchor(s_)) add("anchor", sizes_.trained * kFloat, Held::always);
    if (!learner) return;
    add("critic", sizes_.critic * kFloat, Held::always);
    add("gradients", (sizes_.trained + sizes_.critic) * kFloat, Held::always);
    const std::int64_t flat = (sizes_.trained + sizes_.critic) * kFloat;
    const std::int64_t shards = s_.cluster.shard_optimizer ? learners_ : 1;
    add("AdamW moments", (2 * flat + shards - 1) / shards, Held::always);
    if (s_.run.reduce == Reduce::fixed) add("sums of parts (run.reduce: fixed)", 3 * flat, Held::learn);
    if (s_.cluster.lag > 0 && batch_.chunks > 0)
      add("weights that are behind (cluster.lag)", (has_anchor(s_) ? 4 : 2) * sizes_.trained * kFloat, Held::always);
    add("checkpoint while resuming", sizes_.parameters * kFloat + 2 * (sizes_.trained + sizes_.critic) * kFloat,
        Held::start, false);
  }

  void reward(const std::string& name, const RewardConfig& config, const PlannedReward& planned) {
    const std::int64_t longest = in_.longest_prompt + s_.sampling.max_new_tokens + 2;
    if (planned.lm) {
      const LmSpec& s = *planned.lm;
      add(name, count_parameters(s) * kFloat, Held::always);
      const std::int64_t tokens = padded_tokens(config, s.max_positions, longest);
      add(name + "'s activations", config.batch * tokens * working_numbers(s) * kFloat, Held::score);
    } else if (planned.encoder) {
      const EncoderSpec& e = *planned.encoder;
      add(name, encoder_parameters(e) * kFloat, Held::always);
      const std::int64_t tokens = padded_tokens(config, e.max_positions, longest);
      const std::int64_t row = 3 * e.hidden_size + std::max(5 * e.hidden_size, 2 * e.intermediate_size);
      add(name + "'s activations", config.batch * tokens * row * kFloat, Held::score);
    } else {
      add(name, 2 * planned.file_bytes, Held::always, false);  // weights and the dictionary of their n-grams
    }
  }
  void scorer() {
    reward("reward model", s_.reward, in_.reward);
    if (s_.evaluator.configured() && evaluates(s_)) reward("evaluator", s_.evaluator, in_.evaluator);
  }

  void sampler() {
    std::vector<Chunk> chunks;
    if (batch_.chunks > 0) chunks.push_back({batch_.chunk_prompts, s_.train.samples_per_prompt});
    if (evaluates(s_))
      chunks.push_back({std::max<std::int64_t>(1, 2 * s_.sampling.slots / s_.eval.samples), s_.eval.samples});
    std::int64_t cache = 0, prefix = 0, logits = 0, rows = 0;
    for (const Chunk& chunk : chunks) {
      const std::int64_t slots = std::min(s_.sampling.slots, chunk.prompts * chunk.samples);
      const std::int64_t capacity = std::max<std::int64_t>(1, s_.sampling.max_new_tokens - 1);
      cache = std::max(cache, suffix_cache_bytes(in_.model, slots, capacity, sizes_.element_bytes));
      prefix = std::max(prefix, suffix_cache_bytes(in_.model, chunk.prompts, in_.longest_prompt, sizes_.element_bytes));
      const std::int64_t width = sizes_.element_bytes == kFloat ? kFloat : kFloat + sizes_.element_bytes;
      logits = std::max(logits, (chunk.prompts * kFloat + slots * width) * in_.model.vocab_size);
      rows = std::max(rows, std::min(chunk.prompts * in_.longest_prompt, std::max(kPrefillRows, in_.longest_prompt)));
    }
    if (!device_ && sizes_.element_bytes == kFloat)
      add("packed weights of the sampler (with AVX-512)",
          (in_.model.num_layers * sizes_.block_products + sizes_.head_products) * kFloat, Held::always);
    add("KV cache of sampling.slots", cache, Held::generate);
    add("KV cache of prompts", prefix, Held::generate);
    add("logits of a decoding step", logits, Held::generate);
    add("activations of prompts", rows * working_numbers(in_.model) * sizes_.element_bytes, Held::generate);
  }

  void learning() {
    const bool online = batch_.chunks > 0;
    const std::int64_t t = s_.sampling.max_new_tokens, inputs = in_.longest_prompt + t - 1, v = in_.model.vocab_size;
    const std::int64_t sequences = online ? batch_.sequences : batch_.learner_sequences;
    constexpr std::int64_t kColumns = 15;  // tokens, log-probabilities, KL, entropy, values, advantages …, twice
    add("batch", sequences * t * kColumns * kFloat, Held::learn, false);
    const std::int64_t rows = sequences * inputs * in_.model.hidden_size;
    if (sizes_.frozen_blocks > 0) add("frozen trunk's rows", rows * sizes_.element_bytes, Held::learn);
    if (sizes_.frozen_blocks > 0 && online && s_.rollouts.carry_trunk)
      add("the same as samples carry them", rows * kFloat, Held::learn, false);
    if (online)
      add("reference logits (train.reference_cache_mib)",
          std::min(static_cast<std::int64_t>(s_.train.reference_cache_mib * 1048576.0), sequences * t * v * kFloat),
          Held::learn);
    const std::int64_t micro = batch_.micro_batch_sequences,
                       models = s_.ppo.baseline == Baseline::critic_model && online ? 2 : 1;
    const std::int64_t blocks = models * sizes_.trained_blocks, of_block = saved_numbers(in_.model);
    const std::int64_t saved = s_.train.recompute ? blocks * in_.model.hidden_size + of_block : blocks * of_block;
    add("activations for the gradient", micro * inputs * (saved + working_numbers(in_.model)) * kFloat, Held::learn);
    // On CPUs the policy's, which become their gradient, and the reference's; by tensor operations several of each.
    const std::int64_t copies = device_ || sizes_.element_bytes != kFloat ? 8 : 2;
    add("logits of a micro-batch", copies * micro * t * v * kFloat, Held::learn);
    if (sizes_.head_trained)
      add("gradient of the head, before it is added", v * in_.model.hidden_size * kFloat, Held::learn);
  }

  const Settings& s_;
  const PlanInputs& in_;
  const BatchPlan& batch_;
  ModelSizes sizes_;
  std::int64_t learners_;
  bool device_;
  std::vector<MemoryItem> items_;
};

}  // namespace

std::string_view name_of(Held held) {
  switch (held) {
    case Held::always: return "always";
    case Held::start: return "at start";
    case Held::generate: return "sampling";
    case Held::score: return "scoring";
    case Held::learn: return "learning";
  }
  return "?";
}

MemoryPlan plan_memory(const Settings& settings, const PlanInputs& inputs, const comm::Placement& placement,
                       const BatchPlan& batch) {
  MemoryPlan plan;
  MemoryOf memory(settings, inputs, placement, batch);
  std::map<int, std::int64_t> nodes;
  std::map<std::pair<int, int>, std::int64_t> devices;
  for (const comm::Assignment& rank : placement.ranks) {
    auto role =
        std::find_if(plan.roles.begin(), plan.roles.end(), [&](const auto& r) { return r.roles == rank.roles; });
    if (role == plan.roles.end()) {
      plan.roles.push_back(memory.of(rank.roles));
      role = std::prev(plan.roles.end());
    }
    ++role->num_ranks;
    nodes[rank.node] += role->host;
    if (rank.device >= 0) devices[{rank.node, rank.device}] += role->device;
  }
  for (const auto& [node, bytes] : nodes)
    if (bytes > plan.fullest_node) {
      plan.fullest_node = bytes;
      plan.fullest_node_index = node;
    }
  for (const auto& [device, bytes] : devices) plan.fullest_device = std::max(plan.fullest_device, bytes);
  return plan;
}

}  // namespace vbon
