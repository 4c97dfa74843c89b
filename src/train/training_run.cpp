#include "vbon/train/training_run.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <optional>
#include <set>
#include <span>
#include <sstream>
#include <string>

#include "train/online_batches.hpp"
#include "train/periodic_evaluation.hpp"
#include "train/rollout_weights.hpp"
#include "train/step_times.hpp"
#include "train/training_inputs.hpp"
#include "vbon/base/host.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/words.hpp"
#include "vbon/comm/agree.hpp"
#include "vbon/objective/ppo.hpp"
#include "vbon/store/metrics.hpp"
#include "vbon/store/run_folder.hpp"
#include "vbon/train/checkpointing.hpp"
#include "vbon/train/run_plan.hpp"
#include "vbon/train/stop_check.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

class TrainingRun {
 public:
  TrainingRun(comm::Communicator& world, const Settings& settings, const RunText& text, RewardPrograms& programs,
              const TrainingObserver& observer)
      : settings_(settings), text_(text), observer_(observer),
        context_(make_rank_context(world, settings.cluster, static_cast<int>(online_chunks(settings)))),
        in_(context_, settings, text, programs), times_(context_) {}

  TrainingResult run() {
    comm::together(*context_.everyone, "making a learner", [&] {
      if (context_.is(comm::Role::learner)) learner_ = make_learner(in_.reference, settings_, *context_.learners);
      weights_.emplace(context_, settings_, in_.reference, learner_.get());
    });
    open_folder();
    make_parts();
    restore();
    if (context_.is_root()) metrics_ = std::make_unique<MetricsLog>(folder_->metrics_jsonl(), counters_.step - 1);
    // An attempt before this one has evaluated the checkpoint that we start from: its counters hold what that found.
    // Steps that are replayed are evaluated again, for counters that lack it.
    if (evaluation_->is_due(counters_.step) && !evaluation_->is_there(counters_.step)) evaluate();
    if (context_.is_root() && observer_.started) observer_.started(counters_.step);
    StopCheck stop(*context_.everyone, settings_, text_);
    times_.begin();
    while (counters_.step < settings_.train.steps) {
      step();
      stop.step_done();
      context_.world.waiter().limit(settings_.cluster.timeout_s);
      if (stop.agreed() && counters_.step < settings_.train.steps) return stopped(stop.reason());
    }
    return finished();
  }

 private:
  // The root holds the folder; every rank knows its path, run id and attempt.
  void open_folder() {
    std::string shared;
    comm::together(*context_.everyone, "run folder", [&] {
      if (!context_.is_root()) return;
      folder_ = RunFolder::open(settings_.run.dir,
                                {.config = text_.resolved_yaml, .job = text_.job, .changed_keys = text_.changed_keys});
      log::set_file(folder_->log().string());
      RolloutFiles(folder_->rollouts()).clean();
      RolloutFiles(folder_->eval() / "chunks").clean();
      CheckpointFiles(folder_->checkpoints()).clean();
      shared = fmt::format("{}\n{}", folder_->run_id(), folder_->attempt());
      for (const std::string& name : folder_->unknown_files())
        log::warn("'{}' in the run folder is none of ours; left alone", name);
    });
    if (settings_.log.rank_files) open_rank_logs();
    shared = comm::from_root(*context_.everyone, shared, context_.placement.learner_root(), "run id");
    const std::size_t newline = shared.find('\n');
    provenance_ = provenance_of(context_, settings_, text_.resolved_yaml, in_.identities);
    provenance_.run_id = shared.substr(0, newline);
    provenance_.attempt = std::stoll(shared.substr(newline + 1));
    provenance_.prompts_sha256 = in_.prompts.sha256;
    if (in_.pool) provenance_.pool_sha256 = in_.pool->pool.content_sha256;
    provenance_.forced = in_.forced;
    const fs::path dir = settings_.run.dir;
    const double wait_s = file_wait_s(settings_.cluster);
    rollout_files_ = RolloutFiles(dir / "rollouts", settings_.rollouts.keep, wait_s);
    checkpoints_ = CheckpointFiles(dir / "checkpoints", settings_.checkpoint.keep);
  }

  void open_rank_logs() {
    comm::together(*context_.everyone, "log files of ranks", [&] {
      const fs::path folder = fs::path(settings_.run.dir) / "logs";
      make_folders(folder);
      const int rank = context_.world.rank();
      log::set_rank_file((folder / fmt::format("rank-{:05}.log", rank)).string());
      log::write_own(log::Level::info, fmt::format("rank {} of {} on {}, process {}: {}", rank, context_.world.size(),
                                                   host_name(), ::getpid(), context_.mine.roles.text()));
    });
  }

  void make_parts() {
    const CollectionTools tools = {.policy = weights_->policy(),
                                   .weights = &sampler_weights_,
                                   .tokenizer = &*in_.tokenizer,
                                   .reward = in_.reward.get(),
                                   .evaluator = in_.evaluator.get(),
                                   .more = pointers_to(in_.more_rewards)};
    batches_.emplace(context_, settings_, in_, *weights_, learner_.get(), tools, rollout_files_, provenance_);
    evaluation_.emplace(context_, settings_, in_, learner_.get(), tools, provenance_);
  }

  void restore() {
    std::string found;
    comm::together(*context_.everyone, "checkpoints", [&] {
      if (!context_.is_root()) return;
      make_folders(folder_->rollouts());
      make_folders(folder_->eval() / "chunks");
      std::vector<std::string> skipped;
      const std::optional<Checkpoint> latest = checkpoints_.latest(skipped);
      for (const std::string& line : skipped) log::warn("a checkpoint is not used: {}", line);
      if (!skipped.empty())
        log::warn("going on from {}; the steps in between are done again",
                  latest ? fmt::format("the checkpoint of step {}", latest->manifest.step) : "the beginning");
      if (latest) found = std::to_string(latest->manifest.step);
    });
    found = comm::from_root(*context_.everyone, found, context_.placement.learner_root(), "checkpoint");
    if (found.empty()) return;
    counters_.step = std::stoll(found);
    comm::together(*context_.everyone, "loading a checkpoint", [&] {
      if (!context_.is(comm::Role::learner)) return;
      const fs::path step_folder = checkpoints_.step_folder(counters_.step);
      await_checkpoint(step_folder, file_wait_s(settings_.cluster));
      const Checkpoint checkpoint = verify_checkpoint(step_folder);
      BehindWeights behind;
      counters_ = load_checkpoint(checkpoint, *learner_, behind);
      batches_->resume(std::move(behind));
      last_tokens_ = counters_.tokens;
      if (context_.is_root()) {
        log::info("resuming at step {} of {} (attempt {})", counters_.step, settings_.train.steps, provenance_.attempt);
        warn_of_environment(checkpoint.manifest);
      }
    });
  }

  void warn_of_environment(const Manifest& manifest) const {
    const auto here = environment_of(context_);
    for (const auto& [key, value] : manifest.environment)
      if (const auto it = here.find(key); it != here.end() && it->second != value)
        log::warn("{} was '{}' when the checkpoint was written and is '{}' now: the run goes on, but not bit for bit",
                  key, value, it->second);
    if (manifest.world_size != context_.world.size())
      log::warn(
          "the checkpoint was written by {} ranks, there are {} now: {}", manifest.world_size, context_.world.size(),
          settings_.run.reduce == Reduce::fixed ? "with run.reduce: fixed their number changes no bit"
                                                : "the first update agrees to rounding, later ones in distribution");
  }

  void step() {
    const std::int64_t step = counters_.step;
    Metrics metrics;
    if (is_offline_step(settings_, step)) {
      if (learner_) metrics = offline(step);
    } else {
      // The online loop begins with an optimiser of its own.
      if (step == settings_.train.warm_start && step > 0 && learner_) learner_->parallel->optimizer().reset();
      metrics = online(step);
    }
    counters_.step = step + 1;
    const bool evaluates = evaluation_->is_due(counters_.step), is_best = evaluates && evaluate();
    const std::map<std::string, std::vector<double>> time = times_.gather();
    if (context_.is_root()) record(step, metrics, time, evaluates ? evaluation_->seconds() : 0);
    const bool due = settings_.checkpoint.every > 0 && counters_.step % settings_.checkpoint.every == 0;
    if ((due || is_best) && counters_.step < settings_.train.steps) save();
  }

  Metrics offline(std::int64_t step) {
    const std::int64_t total = is_offline(settings_.train.method) ? settings_.train.steps : settings_.train.warm_start;
    const std::int64_t samples = in_.pool_loss->samples_an_update();
    Metrics metrics = pool_step(*learner_, in_.learner_tools(settings_, context_.phases), in_.pool->pool,
                                *in_.pool_loss, pool_optimizer(offline_method(settings_), settings_), step, total);
    counters_.episodes += samples;
    counters_.tokens += std::llround(metrics.at("length") * static_cast<double>(samples));
    return metrics;
  }

  Metrics online(std::int64_t step) {
    OnlineBatch batch = batches_->take(step);
    Metrics metrics = learn(step, batch.what, std::move(batch.rows));
    batches_->complete();
    return metrics;
  }

  Metrics learn(std::int64_t step, const Collection& what, RolloutBatch batch) {
    if (!learner_) return {};
    for (const std::int32_t version : batch.weights_version)
      check(version <= step && step - version <= settings_.cluster.lag, "samples no older than cluster.lag");
    RolloutBatch of_anchor;
    if (learner_->anchor) {
      of_anchor = of_source(batch, RolloutSource::anchor);
      batch = of_source(batch, RolloutSource::policy);
    }
    const std::int64_t per_step = updates_per_step(settings_), online = step - settings_.train.warm_start;
    Metrics metrics = online_step(*learner_, in_.learner_tools(settings_, context_.phases), batch, what.rows, step,
                                  online * per_step, (settings_.train.steps - settings_.train.warm_start) * per_step,
                                  learner_->anchor ? &of_anchor : nullptr);
    if (learner_->anchor && (online + 1) % settings_.anchor.every == 0) move_anchor(*learner_, settings_.anchor.rate);
    if (context_.is_root()) metrics["distinct_words"] = distinct_words(batch);
    if (settings_.cluster.lag > 0) metrics["staleness"] = static_cast<double>(step - what.weights_version);
    counters_.episodes += batch.num_sequences();
    counters_.tokens += std::accumulate(batch.length.begin(), batch.length.end(), std::int64_t{0});
    if (context_.is_root()) {
      const Phases::Scope scope(context_.phases, Phase::store, context_.world.waiter());
      if (learner_->anchor) {
        add_missing_columns(of_anchor, batch);
        batch = concatenate(std::array{std::move(batch), std::move(of_anchor)});
      }
      rollout_files_.write_step({.provenance = provenance_, .step = step, .num_chunks = what.num_chunks()}, batch);
    }
    return metrics;
  }

  // Share of distinct words among all words of the batch's responses: falls when the policy repeats itself.
  double distinct_words(const RolloutBatch& batch) const {
    std::set<std::string> seen;
    double total = 0;
    for (std::int64_t i = 0; i < batch.num_sequences(); ++i) {
      const auto tokens = std::span(batch.tokens).subspan(idx(i * batch.max_new_tokens), idx(batch.length[idx(i)]));
      std::istringstream words(in_.tokenizer->decode(tokens));
      for (std::string word; words >> word; ++total) seen.insert(word);
    }
    return total > 0 ? static_cast<double>(seen.size()) / total : 0;
  }

  void record(std::int64_t step, const Metrics& metrics, std::map<std::string, std::vector<double>> time,
              double evaluation_s) {
    MetricsRow row{.step = step,
                   .episodes = counters_.episodes,
                   .tokens = counters_.tokens,
                   .values = metrics,
                   .time = std::move(time)};
    const double tokens = metrics.contains("length") ? static_cast<double>(row.tokens - last_tokens_) : 0;
    last_tokens_ = row.tokens;
    row.time["tokens_per_s"] = {tokens / (row.time["total"][idx(context_.world.rank())] - evaluation_s)};
    if (const std::vector<std::string> changed = metrics_->append(row); !changed.empty())
      log::warn("step {} was done again and differs from the earlier attempt: {}", step, joined(changed));
    if (observer_.step) observer_.step(counters_.step, settings_.train.steps, metrics);
  }

  // Whether what it found is the best so far.
  bool evaluate() {
    weights_->publish(counters_.step);
    const Evaluation result = evaluation_->evaluate(counters_.step);
    bool is_best = false;
    if (context_.is_root()) {
      if (result.rows[1].win.mean > counters_.best_win && counters_.step > 0) {
        counters_.best_win = result.rows[1].win.mean;
        counters_.best_step = counters_.step;
        is_best = true;
      }
      if (observer_.evaluated) observer_.evaluated(counters_.step, result);
    }
    return comm::any_rank(*context_.everyone, is_best, "best so far");
  }

  void save() {
    std::pair<at::Tensor, at::Tensor> moments;
    if (learner_) moments = learner_->parallel->moments();
    comm::together(*context_.everyone, "writing a checkpoint", [&] {
      if (!context_.is_root()) return;
      const Phases::Scope scope(context_.phases, Phase::store, context_.world.waiter());
      Manifest manifest;
      manifest.run_id = provenance_.run_id;
      manifest.attempt = provenance_.attempt;
      manifest.config_sha256 = text_.hash;
      manifest.world_size = context_.world.size();
      manifest.environment = environment_of(context_);
      // One of an earlier attempt is written again if it is damaged. Our own are verified already.
      if (saved_step_ != counters_.step && !checkpoints_.is_valid(counters_.step))
        last_checkpoint_ =
            save_checkpoint(checkpoints_, *learner_, moments, batches_->behind(), counters_, settings_, manifest)
                .folder;
      saved_step_ = counters_.step;
      std::set<std::int64_t> protect;
      if (counters_.best_step >= 0) protect.insert(counters_.best_step);
      checkpoints_.retain(protect, counters_.step);
      Provenance provenance = provenance_;
      write_metrics_h5(folder_->metrics_h5(), provenance, metrics_->rows());
    });
  }

  TrainingResult stopped(const std::string& reason) {
    save();
    if (context_.is_root())
      log::info("{}; {} of {} steps are done, run the same command to go on", reason, counters_.step,
                settings_.train.steps);
    return {.code = ExitCode::requeue, .steps_done = counters_.step, .final_checkpoint = last_checkpoint_.string()};
  }

  TrainingResult finished() {
    save();
    comm::together(*context_.everyone, "finishing", [&] {
      if (!context_.is_root()) return;
      last_checkpoint_ = checkpoints_.step_folder(counters_.step);
      std::error_code ignored;
      fs::remove(folder_->eval() / "chunks", ignored);  // only if empty
      folder_->finish(fmt::format("{{\"steps\": {}, \"finished_utc\": \"{}\"}}", counters_.step, utc_now()));
    });
    return {.steps_done = counters_.step, .final_checkpoint = last_checkpoint_.string()};
  }

  const Settings& settings_;
  const RunText& text_;
  const TrainingObserver& observer_;
  RankContext context_;
  const TrainingInputs in_;
  StepTimes times_;

  Provenance provenance_;
  std::optional<RunFolder> folder_;  // root
  RolloutFiles rollout_files_{{}};
  CheckpointFiles checkpoints_{{}};
  std::unique_ptr<MetricsLog> metrics_;  // root
  fs::path last_checkpoint_;
  std::int64_t saved_step_ = -1;  // by this attempt, or found whole

  std::unique_ptr<LearnerState> learner_;
  std::optional<RolloutWeights> weights_;
  SamplerWeights sampler_weights_;
  std::optional<OnlineBatches> batches_;
  std::optional<PeriodicEvaluation> evaluation_;
  Counters counters_;
  std::int64_t last_tokens_ = 0;
};

}  // namespace

TrainingResult run_training(comm::Communicator& world, const Settings& settings, const RunText& text,
                            RewardPrograms& programs, const TrainingObserver& observer) {
  return TrainingRun(world, settings, text, programs, observer).run();
}

}  // namespace vbon
