#include "vbon/train/training_run.hpp"

#include <ATen/core/grad_mode.h>
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

#include "train/rollout_weights.hpp"
#include "train/training_inputs.hpp"
#include "vbon/base/host.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/words.hpp"
#include "vbon/comm/agree.hpp"
#include "vbon/objective/ppo.hpp"
#include "vbon/store/metrics.hpp"
#include "vbon/store/run_folder.hpp"
#include "vbon/text/prompts.hpp"
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
        in_(context_, settings, text, programs) {}

  TrainingResult run() {
    comm::together(*context_.everyone, "making a learner", [&] {
      if (context_.is(comm::Role::learner)) learner_ = make_learner(in_.reference, settings_, *context_.learners);
      weights_.emplace(context_, settings_, in_.reference, learner_.get());
    });
    open_folder();
    restore();
    if (context_.is_root()) metrics_ = std::make_unique<MetricsLog>(folder_->metrics_jsonl(), counters_.step - 1);
    if (!is_evaluated()) evaluate_if_due();
    if (context_.is_root() && observer_.started) observer_.started(counters_.step);
    StopCheck stop(*context_.everyone, settings_, text_);
    begin_timing();
    while (counters_.step < settings_.train.steps) {
      step();
      stop.step_done();
      context_.world.waiter().limit(settings_.cluster.timeout_s);
      if (stop.agreed() && counters_.step < settings_.train.steps) return stopped(stop.reason());
    }
    return finished();
  }

 private:
  bool evaluates() const { return settings_.eval.every > 0; }
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
    eval_chunks_ = RolloutFiles(dir / "eval" / "chunks", Keep::all(), wait_s);
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
      counters_ = load_checkpoint(checkpoint, *learner_, behind_);
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
    evaluation_s_ = 0;
    const bool is_best = evaluate_if_due();
    const std::map<std::string, std::vector<double>> time = gather_times();
    if (context_.is_root()) record(step, metrics, time);
    const bool due = settings_.checkpoint.every > 0 && counters_.step % settings_.checkpoint.every == 0;
    if ((due || is_best) && counters_.step < settings_.train.steps) save();
  }

  // From the end of one step's times to that of the next: a checkpoint is part of the step after it.
  void begin_timing() {
    timed_since_ = Phases::Clock::now();
    idle_before_ = context_.idle_seconds();
    context_.phases.clear();
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

  // What a step samples: with weights that have seen `version` steps.
  Collection collection(std::int64_t step, std::int64_t version) {
    Collection what;
    what.prompts = &in_.prompts.rows;
    what.rows = prompt_indices(static_cast<std::uint64_t>(*settings_.run.seed), in_.prompts.key,
                               in_.prompts.rows.num_prompts(), step, settings_.train.prompts_per_step);
    what.samples_per_prompt = static_cast<std::int32_t>(settings_.train.samples_per_prompt);
    what.prompts_per_chunk = train_chunk_prompts(settings_);
    what.sampling = settings_.sampling;
    what.eos_ids = in_.spec.eos_ids;
    what.stream =
        RandomStream(static_cast<std::uint64_t>(*settings_.run.seed), Purpose::rollout, in_.prompts.key, step);
    if (in_.prefix_values) what.prefix_every = in_.prefix_values->every;
    what.step = step;
    what.weights_version = version;
    what.files = &rollout_files_;
    what.header = {.provenance = provenance_, .step = step};
    what.anchor_samples = static_cast<std::int32_t>(anchor_samples(settings_));
    what.anchor_stream =
        RandomStream(static_cast<std::uint64_t>(*settings_.run.seed), Purpose::anchor, in_.prompts.key, step);
    return what;
  }
  CollectionTools sampling_tools() {
    CollectionTools tools = scoring_tools();
    tools.anchor = weights_->anchor();
    tools.ranks = in_.ranks;
    return tools;
  }

  // Lag 0: sample, then learn. Lag 1: the batch of the step is there, drawn while the step before was learned; the next
  // one is drawn, with the weights as they are now, while this one is learned.
  Metrics online(std::int64_t step) {
    if (settings_.cluster.lag == 0) {
      weights_->publish(step);
      const Collection what = collection(step, step);
      return learn(step, what, collect(context_, what, sampling_tools()));
    }
    if (!in_flight_) draw_in_flight(step);
    const Collection what = std::move(in_flight_->what);
    RolloutBatch batch = std::move(in_flight_->batch);
    in_flight_.reset();
    behind_ = {};
    std::optional<Collecting> next;
    if (step + 1 < settings_.train.steps) {
      weights_->publish(step);
      next.emplace(context_, collection(step + 1, step), sampling_tools());
      next->draw();
      if (context_.is_root()) remember_weights(step);
    }
    Metrics metrics = learn(step, what, std::move(batch));
    if (next) {
      next->score();
      RolloutBatch gathered = next->gather();
      in_flight_ = {next->what(), std::move(gathered)};
    }
    return metrics;
  }

  // The first online step has nothing in flight: it is drawn on policy. A resumed one draws again what was in flight.
  void draw_in_flight(std::int64_t step) {
    std::int64_t version = behind_.version;
    std::string text = context_.is_root() ? std::to_string(version) : "";
    version = std::stoll(comm::from_root(*context_.everyone, text, context_.placement.learner_root(), "in flight"));
    if (version < 0) {
      version = step;
      weights_->publish(step);
    } else {
      behind_.version = version;
      weights_->publish(behind_);
    }
    const Collection what = collection(step, version);
    RolloutBatch batch = collect(context_, what, sampling_tools());
    in_flight_ = {what, std::move(batch)};
  }

  void remember_weights(std::int64_t version) {
    const at::NoGradGuard no_grad;
    behind_.version = version;
    behind_.policy = learner_->parameters.values().narrow(0, 0, learner_->policy_size).clone();
    if (learner_->anchor) behind_.anchor = learner_->anchor->parameters.values().clone();
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

  CollectionTools scoring_tools() {
    return {.policy = weights_->policy(),
            .weights = &sampler_weights_,
            .tokenizer = &*in_.tokenizer,
            .reward = in_.reward.get(),
            .evaluator = in_.evaluator.get(),
            .more = pointers_to(in_.more_rewards)};
  }

  std::map<std::string, std::vector<double>> gather_times() {
    const double idle = context_.idle_seconds() - idle_before_;
    const double total = std::chrono::duration<double>(Phases::Clock::now() - timed_since_).count();
    std::vector<double> mine(context_.phases.all().begin(), context_.phases.all().end());
    mine.push_back(idle);
    mine.push_back(total);
    begin_timing();
    std::vector<double> all(mine.size() * idx(context_.world.size()));
    context_.everyone->all_gather(std::span<const double>(mine), std::span<double>(all), "times");
    std::map<std::string, std::vector<double>> time;
    for (int rank = 0; rank < context_.world.size(); ++rank) {
      const double* row = all.data() + static_cast<std::size_t>(rank) * mine.size();
      for (std::size_t k = 0; k < kPhaseNames.size(); ++k) time[std::string(kPhaseNames[k])].push_back(row[k]);
      time["idle"].push_back(row[kPhaseNames.size()]);
      time["total"].push_back(row[kPhaseNames.size() + 1]);
    }
    return time;
  }

  void record(std::int64_t step, const Metrics& metrics, std::map<std::string, std::vector<double>> time) {
    MetricsRow row{.step = step,
                   .episodes = counters_.episodes,
                   .tokens = counters_.tokens,
                   .values = metrics,
                   .time = std::move(time)};
    const double tokens = metrics.contains("length") ? static_cast<double>(row.tokens - last_tokens_) : 0;
    last_tokens_ = row.tokens;
    row.time["tokens_per_s"] = {tokens / (row.time["total"][idx(context_.world.rank())] - evaluation_s_)};
    if (const std::vector<std::string> changed = metrics_->append(row); !changed.empty())
      log::warn("step {} was done again and differs from the earlier attempt: {}", step, joined(changed));
    if (observer_.step) observer_.step(counters_.step, settings_.train.steps, metrics);
  }

  fs::path evaluation_file() const {
    return fs::path(settings_.run.dir) / "eval" / fmt::format("step-{:08}.h5", counters_.step);
  }

  // Whether an earlier attempt has evaluated the checkpoint that we start from: its counters hold what that found.
  // Steps that are replayed are evaluated again, for counters that lack it.
  bool is_evaluated() { return root_says(context_.is_root() && fs::exists(evaluation_file()), "evaluation there"); }

  bool root_says(bool yes, std::string_view what) {
    return comm::from_root(*context_.everyone, yes ? "yes" : "no", context_.placement.learner_root(), what) == "yes";
  }

  // Whether what it found is the best so far.
  bool evaluate_if_due() {
    if (!evaluates() || (counters_.step % settings_.eval.every != 0 && counters_.step != settings_.train.steps))
      return false;
    const Phases::Scope scope(context_.phases, Phase::evaluate, context_.world.waiter());
    const auto begin = Phases::Clock::now();
    weights_->publish(counters_.step);
    EvalHeader header{.provenance = provenance_, .method = std::string(enum_name(settings_.train.method))};
    header.provenance.prompts_sha256 = in_.eval_prompts->sha256;
    header.provenance.pool_sha256 = in_.eval_pool->pool.content_sha256;
    header.n = strength_of(settings_).n;
    header.beta = strength_of(settings_).beta;
    header.training_seed = *settings_.run.seed;
    header.temperature = settings_.sampling.temperature;
    header.checkpoint_step = counters_.step;
    header.eos_ids.assign(in_.spec.eos_ids.begin(), in_.spec.eos_ids.end());
    const Evaluation result = evaluate(context_, settings_,
                                       {.prompts = *in_.eval_prompts,
                                        .pool = *in_.eval_pool,
                                        .collection = scoring_tools(),
                                        .reference = learner_ ? &in_.reference : nullptr,
                                        .policy = learner_ ? &learner_->policy : nullptr,
                                        .header = header,
                                        .chunks = &eval_chunks_});
    bool is_best = false;
    if (context_.is_root()) {
      eval_chunks_.clean();
      write_file_atomically(evaluation_file().replace_extension(".json"), summary_json(result));
      write_eval(evaluation_file(), result.file);  // last: with it the step is evaluated
      if (result.rows[1].win.mean > counters_.best_win && counters_.step > 0) {
        counters_.best_win = result.rows[1].win.mean;
        counters_.best_step = counters_.step;
        is_best = true;
      }
      if (observer_.evaluated) observer_.evaluated(counters_.step, result);
    }
    is_best = root_says(is_best, "best so far");
    evaluation_s_ = std::chrono::duration<double>(Phases::Clock::now() - begin).count();
    return is_best;
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
            save_checkpoint(checkpoints_, *learner_, moments, behind_, counters_, settings_, manifest).folder;
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

  Provenance provenance_;
  std::optional<RunFolder> folder_;  // root
  RolloutFiles rollout_files_{{}}, eval_chunks_{{}};
  CheckpointFiles checkpoints_{{}};
  std::unique_ptr<MetricsLog> metrics_;  // root
  fs::path last_checkpoint_;
  std::int64_t saved_step_ = -1;  // by this attempt, or found whole

  std::unique_ptr<LearnerState> learner_;
  std::optional<RolloutWeights> weights_;
  SamplerWeights sampler_weights_;
  struct InFlight {
    Collection what;
    RolloutBatch batch;  // learners
  };
  std::optional<InFlight> in_flight_;  // of the next step; cluster.lag 1
  BehindWeights behind_;               // that it was drawn with; the learners' root
  Counters counters_;
  std::int64_t last_tokens_ = 0;
  Phases::Clock::time_point timed_since_;
  double idle_before_ = 0;
  double evaluation_s_ = 0;  // of this step's evaluation, idle or not
};

}  // namespace

TrainingResult run_training(comm::Communicator& world, const Settings& settings, const RunText& text,
                            RewardPrograms& programs, const TrainingObserver& observer) {
  return TrainingRun(world, settings, text, programs, observer).run();
}

}  // namespace vbon
