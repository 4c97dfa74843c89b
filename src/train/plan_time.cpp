// Work and time of the busiest rank in each phase: multiply-adds counted twice by the matrices' shapes, attention by
// its context, memory that must pass where it is the limit. Communication and files are left out.
#include <algorithm>
#include <cmath>
#include <map>

#include "train/plan_shapes.hpp"

namespace vbon {
namespace {

double real(std::int64_t n) { return static_cast<double>(n); }

class TimeOf {
 public:
  TimeOf(const Settings& settings, const PlanInputs& inputs, const comm::Placement& placement, const BatchPlan& batch,
         const std::optional<ComputeRates>& rates)
      : s_(settings), in_(inputs), placement_(placement), batch_(batch), rates_(rates),
        sizes_(model_sizes(settings, inputs.model)), prompt_(inputs.prompt_tokens),
        response_(real(settings.sampling.max_new_tokens)) {}

  TimePlan plan() {
    TimePlan time{.estimated = rates_.has_value()};
    const std::int64_t learners = static_cast<std::int64_t>(placement_.learners.size());
    if (batch_.chunks > 0) {
      time.generate = generate(batch_.rollout_chunks, batch_.chunk_prompts, batch_.chunk_sequences);
      time.score = score(batch_.scorer_chunks, batch_.chunk_sequences, evaluates(s_),
                         s_.ppo.baseline == Baseline::prefix ? batch_.chunk_sequences : 0);
      time.prepare = learn(prepare_flops(ceil_div(batch_.sequences, learners)), 0);
      time.update = learn(update_flops(learners), real(batch_.updates) * optimizer_bytes());
    }
    if (batch_.pool_updates > 0) {
      const double own = real(ceil_div(batch_.pool_samples, learners));
      time.pool_update = learn(own * ((s_.pool.keep_trunk ? 0 : trunk()) + gradient()), optimizer_bytes());
    }
    if (evaluates(s_)) time.evaluation = evaluation(learners);
    if (in_.num_prompts > 0 && reads_pool(s_)) time.pool = pool();
    time.overlapped = overlapped();
    const double collect = time.overlapped ? std::max(time.generate.seconds, time.score.seconds) +
                                                 time.score.seconds / std::max(1.0, real(batch_.scorer_chunks))
                                           : time.generate.seconds + time.score.seconds;
    time.step_seconds = collect + time.prepare.seconds + time.update.seconds;
    time.run_seconds =
        real(batch_.online_steps) * time.step_seconds + real(batch_.pool_updates) * time.pool_update.seconds;
    if (evaluates(s_))
      time.run_seconds +=
          real(batch_.steps / s_.eval.every + 1 + (batch_.steps % s_.eval.every != 0)) * time.evaluation.seconds;
    return time;
  }

 private:
  double length() const { return prompt_ + response_ - 1; }  // rows of a sequence in the learner
  // Multiply and add over `blocks` blocks for one sequence of rows, causal attention among them.
  double blocks(std::int64_t count, double rows) const {
    return real(count) * (2 * real(sizes_.block_products) * rows + 2 * real(in_.model.query_size()) * rows * rows);
  }
  double head(double rows) const { return 2 * real(sizes_.head_products) * rows; }
  double trunk() const { return blocks(sizes_.frozen_blocks, length()); }
  double again() const { return s_.rollouts.carry_trunk ? 0 : trunk(); }  // by learners
  double top() const { return blocks(sizes_.trained_blocks, length()); }
  double critic_models() const { return s_.ppo.baseline == Baseline::critic_model ? 1 : 0; }

  Work learn(double flops, double bytes) const {
    Work work{.flops = flops, .bytes = bytes};
    if (rates_) work.seconds = flops / rates_->learn_flops + bytes / rates_->bytes;
    return work;
  }

  // Chunks one after the other: the prompts, then steps that each read all weights once.
  Work generate(std::int64_t chunks, std::int64_t prompts, std::int64_t sequences) const {
    const std::int64_t layers = in_.model.num_layers, new_tokens = s_.sampling.max_new_tokens - 1;
    const double prefill = real(prompts) * (blocks(layers, prompt_) + head(1));
    const double token = 2 * real(layers * sizes_.block_products + sizes_.head_products) +
                         4 * real(layers * in_.model.query_size()) * (prompt_ + response_ / 2);
    const double decode = real(sequences * new_tokens) * token;
    const double steps = real(ceil_div(sequences, s_.sampling.slots) * new_tokens);
    const double weights = real(layers * sizes_.block + sizes_.head_products) * real(sizes_.element_bytes);
    Work work{.flops = real(chunks) * (prefill + decode), .bytes = real(chunks) * steps * weights};
    if (rates_)
      work.seconds = real(chunks) * (prefill / rates_->learn_flops +
                                     std::max(decode / rates_->decode_flops, steps * weights / rates_->bytes));
    return work;
  }

  double encoder_flops(const RewardConfig& config, const PlannedReward& planned, std::int64_t sequences,
                       double response) const {
    const auto tokens = static_cast<std::int64_t>(std::ceil(prompt_ + response)) + 2;
    const double texts = real(ceil_div(sequences, config.batch) * config.batch);
    if (planned.lm) {
      const LmSpec& s = *planned.lm;
      const double rows = real(padded_tokens(config, s.max_positions, tokens));
      const double embeddings = real((s.vocab_size + (s.learned_positions ? s.max_positions : 0)) * s.hidden_size);
      const double matrices = 2 * (real(count_parameters(s)) - embeddings) * rows;
      return texts * (matrices + real(s.num_layers) * 4 * real(s.query_size()) * rows * rows);
    }
    if (!planned.encoder) return 0;  // n-grams cost nothing beside; programs are not known
    const EncoderSpec& e = *planned.encoder;
    const double d = real(e.hidden_size), rows = real(padded_tokens(config, e.max_positions, tokens));
    const double matrices = 2 * d * (4 * d + 2 * real(e.intermediate_size)) * rows;
    return texts * real(e.num_layers) * (matrices + 4 * d * rows * rows);
  }
  // `cut`: so many of the sequences are scored at pool.prefix_every's prefixes, too.
  Work score(std::int64_t chunks, std::int64_t sequences, bool with_evaluator, std::int64_t cut) const {
    double flops = encoder_flops(s_.reward, in_.reward, sequences, response_);
    if (with_evaluator && s_.evaluator.configured())
      flops += encoder_flops(s_.evaluator, in_.evaluator, sequences, response_);
    const std::int64_t every = s_.pool.prefix_every;
    for (std::int64_t kept = every; cut > 0 && every > 0 && kept < s_.sampling.max_new_tokens; kept += every)
      flops += encoder_flops(s_.reward, in_.reward, cut, real(kept));
    return learn(real(chunks) * flops, 0);
  }

  double prepare_flops(std::int64_t own) const {
    return real(own) * (again() + (2 + critic_models()) * top() + 2 * head(response_));
  }
  // Forward and backward of one sequence: 2 + 4 flops a parameter, and 2 for blocks that are computed twice; the head's
  // own gradient only where it is trained.
  double passes() const { return s_.train.recompute ? 4 : 3; }
  double gradient() const { return passes() * top() + head(response_) * (sizes_.head_trained ? 3 : 2); }

  double update_flops(std::int64_t learners) const {
    const double own = real(ceil_div(batch_.minibatch_sequences, learners) * batch_.updates);
    double flops = own * (gradient() + critic_models() * passes() * top());
    // Learners meet other sequences than those they measured: what those share with the reference is computed again.
    const double total = real(batch_.sequences);
    const double met = total * (1 - std::pow(1 - 1 / real(learners), real(batch_.epochs + 1)));
    flops += std::max(0.0, met - total / real(learners)) * again();
    if (s_.ppo.kl_form == KlForm::exact) {
      const double kept = s_.train.reference_cache_mib * 1048576.0 / (4 * response_ * real(in_.model.vocab_size));
      const double missing = kept >= met ? met - total / real(learners) : own * (1 - kept / met);
      flops += std::max(0.0, missing) * (top() + head(response_));
    }
    return flops;
  }
  // Values and both moments read and written, the gradient read by norm and update and set to zero.
  double optimizer_bytes() const { return 36 * real(sizes_.trained + sizes_.critic); }

  Work evaluation(std::int64_t learners) const {
    const std::int64_t per_chunk = std::max<std::int64_t>(1, 2 * s_.sampling.slots / s_.eval.samples);
    const std::int64_t chunks = ceil_div(std::max<std::int64_t>(in_.num_eval_prompts, 1), per_chunk);
    const std::int64_t prompts = std::min(per_chunk, std::max<std::int64_t>(in_.num_eval_prompts, 1));
    const auto most = [&](std::size_t ranks) { return ceil_div(chunks, static_cast<std::int64_t>(ranks)); };
    const Work drawn = generate(most(placement_.rollouts.size()), prompts, prompts * s_.eval.samples);
    const Work scored = score(most(placement_.scorers.size()), prompts * s_.eval.samples, true, 0);
    const double own = real(ceil_div(in_.num_eval_prompts * s_.eval.samples, learners));
    const Work measured = learn(own * (again() + 2 * top() + 2 * head(response_)), 0);
    return {drawn.flops + scored.flops + measured.flops, drawn.bytes,
            drawn.seconds + scored.seconds + measured.seconds};
  }

  Work pool() const {
    const std::int64_t per_chunk = std::min(pool_chunk_prompts(s_), in_.num_prompts);
    const std::int64_t chunks =
        ceil_div(ceil_div(in_.num_prompts, per_chunk), static_cast<std::int64_t>(placement_.ranks.size()));
    const Work drawn = generate(chunks, per_chunk, per_chunk * s_.pool.samples);
    const Work scored = score(chunks, per_chunk * s_.pool.samples, true, per_chunk * prefix_samples(s_));
    return {drawn.flops + scored.flops, drawn.bytes, drawn.seconds + scored.seconds};
  }

  // Scorers of their own take chunk after chunk while the next is sampled, if cores (or GPUs) suffice for both.
  bool overlapped() const {
    if (batch_.chunks == 0) return false;
    std::map<int, int> busy;
    for (const comm::Assignment& rank : placement_.ranks) {
      const bool samples = rank.roles.has(comm::Role::rollout), scores = rank.roles.has(comm::Role::scorer);
      if (samples && scores) return false;
      if (samples || scores) ++busy[rank.node];
    }
    const int threads = comm::threads_per_rank(placement_, s_.cluster, in_.cores_per_node);
    const int devices = in_.topology.devices_per_node;
    return std::all_of(busy.begin(), busy.end(), [&](const auto& node) {
      return devices > 0 ? node.second <= devices : node.second * threads <= in_.cores_per_node;
    });
  }

  const Settings& s_;
  const PlanInputs& in_;
  const comm::Placement& placement_;
  const BatchPlan& batch_;
  const std::optional<ComputeRates>& rates_;
  ModelSizes sizes_;
  double prompt_, response_;
};

}  // namespace

TimePlan plan_time(const Settings& settings, const PlanInputs& inputs, const comm::Placement& placement,
                   const BatchPlan& batch, const std::optional<ComputeRates>& rates) {
  return TimeOf(settings, inputs, placement, batch, rates).plan();
}

}  // namespace vbon
