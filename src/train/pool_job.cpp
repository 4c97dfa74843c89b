#include "vbon/train/pool_job.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <optional>

#include "vbon/base/files.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/words.hpp"
#include "vbon/comm/agree.hpp"
#include "vbon/generate/engine.hpp"
#include "vbon/model/hf_weights.hpp"
#include "vbon/store/lock.hpp"
#include "vbon/store/pool_parts.hpp"
#include "vbon/train/carried_trunk.hpp"
#include "vbon/train/prefixes.hpp"
#include "vbon/train/stop_check.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

class PoolWork {
 public:
  PoolWork(comm::Communicator& world, const Settings& settings, const RunText& text, RewardPrograms& programs,
           const PoolJob& job, const std::function<void(const PoolProgress&)>& observer)
      : settings_(settings), text_(text), programs_(programs), job_(job), observer_(observer),
        path_(job.which == PoolOf::train ? settings.pool.path : settings.pool.eval_path),
        context_(make_uniform_context(world, settings.cluster)) {}

  PoolResult run() {
    load();
    std::string existing = existing_pool();
    if (existing.empty()) {
      take_lock();
      existing = existing_pool();  // by a job that held the lock until now
    }
    if (!existing.empty()) return {.merged = true, .content_sha256 = existing};
    parts_ = std::make_unique<PoolParts>(path_, header_, prompts_.rows.num_prompts(), pool_chunk_prompts(settings_));
    if (!job_.merge_only && !draw()) return {.code = ExitCode::requeue};
    return merge();
  }

 private:
  // A pool has one job, or one a shard; the shard that finds all parts there merges them, as the pool's one job.
  fs::path lock_path() const { return path_.string() + ".lock"; }
  fs::path shard_lock_path() const {
    return fmt::format("{}.shard-{}-of-{}.lock", path_.string(), job_.shard, job_.num_shards);
  }

  void take_lock() {
    comm::together(*context_.everyone, "lock of the pool", [&] {
      if (context_.world.rank() != 0) return;
      make_folders(fs::absolute(path_).parent_path());
      const bool is_shard = job_.num_shards > 1 && !job_.merge_only;
      lock_.emplace(is_shard ? shard_lock_path() : lock_path(), LockHolder{.job = text_.job});
    });
  }

  void load() {
    identities_ = identify(context_, settings_);
    comm::together(*context_.everyone, "loading", [&] {
      tokenizer_ = Tokenizer::load(settings_.model.reference);
      spec_ = read_lm_spec(settings_.model.reference);
      prompts_ = load_prompts(job_.which == PoolOf::train ? settings_.prompts.train : settings_.prompts.eval, settings_,
                              *tokenizer_, spec_);
    });
    header_.provenance = provenance_of(context_, settings_, text_.resolved_yaml, identities_);
    header_.provenance.prompts_sha256 = prompts_.sha256;
    header_.temperature = settings_.sampling.temperature;
    header_.max_new_tokens = settings_.sampling.max_new_tokens;
    header_.num_samples = settings_.pool.samples;
    header_.eos_ids.assign(spec_.eos_ids.begin(), spec_.eos_ids.end());
    header_.ties = std::string(enum_name(settings_.vbon.ties));
    header_.reward_output = std::string(enum_name(settings_.reward.output));
    header_.reward_round = settings_.reward.round;
    header_.more_rewards = identities_.more;
    if (job_.which == PoolOf::train) {
      header_.prefix_every = settings_.pool.prefix_every;
      if (header_.prefix_every > 0) header_.prefix_samples = prefix_samples(settings_);
      if (settings_.pool.keep_trunk) header_.trunk_block = first_trained_block(spec_, settings_.train.layers);
    }
  }

  // Content hash of a pool that is there and fits; "" if there is none.
  std::string existing_pool() {
    std::string found;
    comm::together(*context_.everyone, "the pool", [&] {
      if (context_.world.rank() != 0 || !fs::exists(path_)) return;
      std::string forced;
      const UsedPool used = load_pool(path_.string(), settings_, prompts_, identities_, text_.force, forced);
      require(used.pool.header.num_samples >= settings_.pool.samples,
              "'{}' holds {} samples a prompt, pool.samples asks for {}; give another pool.path, or remove the file",
              path_.string(), used.pool.header.num_samples, settings_.pool.samples);
      require(
          header_.prefix_every == 0 || (used.pool.header.prefix_every == header_.prefix_every &&
                                        used.pool.header.prefix_samples >= header_.prefix_samples),
          "'{}' has prefixes of {} samples scored every {} tokens, pool.prefix_samples and pool.prefix_every ask for "
          "{} and {}; give another pool.path, or remove the file",
          path_.string(), used.pool.header.prefix_samples, used.pool.header.prefix_every, header_.prefix_samples,
          header_.prefix_every);
      require(
          header_.trunk_block == 0 || used.pool.header.trunk_block == header_.trunk_block,
          "'{}' keeps the trunk's rows that enter block {}, pool.keep_trunk and train.layers ask for block {}; give "
          "another pool.path, or remove the file",
          path_.string(), used.pool.header.trunk_block, header_.trunk_block);
      log::info("'{}' is there and fits: nothing to do", path_.string());
      found = used.pool.content_sha256;
    });
    return comm::from_root(*context_.everyone, found, 0, "the pool");
  }

  // Draws and scores this rank's share of the missing chunks; false: stopped by a signal, or before the allocation
  // ends.
  bool draw() {
    std::string list;
    comm::together(*context_.everyone, "parts of the pool", [&] {
      if (context_.world.rank() != 0) return;
      for (const std::int64_t chunk : parts_->missing(job_.shard, job_.num_shards)) list += std::to_string(chunk) + " ";
    });
    list = comm::from_root(*context_.everyone, list, 0, "missing chunks");
    std::vector<std::int64_t> missing;
    for (const std::string& word : split(list, ' '))
      if (!word.empty()) missing.push_back(std::stoll(word));
    PoolProgress progress;
    for (std::int64_t chunk = job_.shard; chunk < parts_->num_chunks(); chunk += job_.num_shards)
      progress.total += parts_->prompts_in(chunk) * settings_.pool.samples;
    progress.done = progress.total;
    for (const std::int64_t chunk : missing) progress.done -= parts_->prompts_in(chunk) * settings_.pool.samples;
    progress.already = progress.done;
    if (missing.empty()) return true;
    comm::together(*context_.everyone, "loading models", [&] { load_models(); });
    comm::together(*context_.everyone, "folder of parts", [&] {
      if (context_.world.rank() == 0) make_folders(parts_->folder());  // after all that may be refused
    });
    StopCheck stop(*context_.everyone, settings_, text_);
    bool stopped = false;
    comm::together(*context_.everyone, "drawing the pool", [&] {
      double rewards = 0, count = 0;
      for (std::size_t i = 0; i < missing.size() && !stopped; ++i) {
        // Ranks work at the same pace: the root's progress stands for all.
        progress.done += parts_->prompts_in(missing[i]) * settings_.pool.samples;
        if (static_cast<int>(i % idx(context_.world.size())) == context_.world.rank()) {
          draw_chunk(missing[i], rewards, count);
          progress.mean_reward = rewards / count;
          if (observer_) observer_(progress);
          stopped = stop.step_done();
        }
      }
    });
    if (!stop.agreed()) return true;
    if (context_.world.rank() == 0)
      log::info("{}; what is drawn is kept, run the same command to go on", stop.reason());
    return false;
  }

  void load_models() {
    if (reward_ != nullptr) return;
    reference_ = load_causal_lm(settings_.model.reference, context_.device, scalar_type(settings_.model.dtype));
    reward_ = load_reward(settings_.reward, context_.device, programs_.reward);
    if (settings_.evaluator.configured())
      evaluator_ = load_reward(settings_.evaluator, context_.device, programs_.evaluator);
    more_ = load_more_rewards(settings_, context_.device, programs_);
  }

  void draw_chunk(std::int64_t chunk, double& rewards, double& count) {
    const auto start = std::chrono::steady_clock::now();
    const std::int64_t first = parts_->first_prompt(chunk), prompts = parts_->prompts_in(chunk);
    GenerateRequest request{.num_samples = static_cast<std::int32_t>(settings_.pool.samples)};
    SampleBlock block;
    for (std::int64_t row = first; row < first + prompts; ++row) {
      const PromptRows& all = prompts_.rows;
      request.prompts.push_back({all.id[idx(row)], all.tokens_of(row)});
      block.prompts.add(all.id[idx(row)], all.text[idx(row)], all.tokens_of(row));
    }
    const std::vector<Completion> completions =
        generate(reference_, request,
                 {.sampling = settings_.sampling,
                  .eos_ids = spec_.eos_ids,
                  .stream = RandomStream(static_cast<std::uint64_t>(*settings_.run.seed), Purpose::pool, prompts_.key),
                  .keep_layer = header_.trunk_block > 0 ? header_.trunk_block : -1,
                  .weights = &sampler_weights_});
    SampleRows& samples = block.samples;
    samples.num_samples = settings_.pool.samples;
    samples.max_new_tokens = settings_.sampling.max_new_tokens;
    samples.tokens.assign(completions.size() * idx(samples.max_new_tokens), -1);
    std::vector<std::string> responses;
    for (std::size_t i = 0; i < completions.size(); ++i) {
      const Completion& c = completions[i];
      std::copy(c.tokens.begin(), c.tokens.end(),
                samples.tokens.begin() + static_cast<std::ptrdiff_t>(i * idx(samples.max_new_tokens)));
      samples.length.push_back(static_cast<std::int32_t>(c.tokens.size()));
      samples.finished.push_back(c.finished ? 1 : 0);
      double logp = 0;
      for (const float l : c.logp) logp += l;
      samples.logp_reference.push_back(static_cast<float>(logp));
      responses.push_back(tokenizer_->decode(c.tokens));
    }
    std::vector<PromptResponse> texts;
    for (std::size_t i = 0; i < completions.size(); ++i)
      texts.push_back({block.prompts.text[idx(completions[i].prompt)], responses[i]});
    block.rewards["main"] = reward_->score(texts);
    if (evaluator_ != nullptr) block.rewards["evaluator"] = evaluator_->score(texts);
    std::size_t place = 0;
    for (const auto& [name, more] : settings_.rewards) block.rewards[name] = more_[place++]->score(texts);
    if (header_.prefix_every > 0) block.prefixes = scored_prefixes(block, completions);
    if (header_.trunk_block > 0) block.trunk = trunk_rows(completions);
    for (const float r : block.rewards["main"]) rewards += r;
    count += static_cast<double>(completions.size());
    parts_->write(chunk, block, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }

  // Completions are prompt-major; each has its prompt's rows and its own.
  TrunkRows trunk_rows(const std::vector<Completion>& completions) const {
    TrunkRows rows{.block = header_.trunk_block, .width = spec_.hidden_size};
    for (std::size_t i = 0; i < completions.size(); ++i) {
      const KeptRows kept = kept_rows(completions[i]);
      if (i % idx(settings_.pool.samples) == 0)
        rows.prompt.insert(rows.prompt.end(), kept.prompt.begin(), kept.prompt.end());
      rows.samples.insert(rows.samples.end(), kept.own.begin(), kept.own.end());
    }
    return rows;
  }

  PrefixRows scored_prefixes(const SampleBlock& block, const std::vector<Completion>& completions) {
    PrefixRows rows{.every = header_.prefix_every, .samples = header_.prefix_samples};
    const std::size_t cuts = idx(rows.num_cuts(settings_.sampling.max_new_tokens));
    rows.reward.assign(idx(block.num_prompts() * rows.samples) * cuts, std::numeric_limits<float>::quiet_NaN());
    rows.logp_reference = rows.reward;
    std::vector<TokenResponse> responses;
    std::vector<const Completion*> cut;  // whose responses these are
    for (const Completion& c : completions) {
      if (c.sample >= rows.samples) continue;
      responses.push_back({block.prompts.text[idx(c.prompt)], c.tokens});
      cut.push_back(&c);
    }
    for (const PrefixReward& prefix : score_prefixes(*reward_, *tokenizer_, responses, rows.every)) {
      const std::size_t cell = prefix.response * cuts + idx(prefix.tokens / rows.every - 1);
      double logp = 0;
      for (const float l : std::span(cut[prefix.response]->logp).first(idx(prefix.tokens))) logp += l;
      rows.reward[cell] = prefix.reward;
      rows.logp_reference[cell] = static_cast<float>(logp);
    }
    return rows;
  }

  // False: another shard's job came first, and merges or has merged.
  bool lock_for_merging() {
    if (lock_holder(lock_path())) return false;
    try {
      lock_.emplace(lock_path(), LockHolder{.job = text_.job});
    } catch (const UserError&) {  // it came since
      return false;
    }
    return !fs::exists(path_);
  }

  PoolResult merge() {
    std::string sha256;
    comm::together(*context_.everyone, "merging the pool", [&] {
      if (context_.world.rank() != 0) return;
      const double wait_s = file_wait_s(settings_.cluster);
      if (!job_.merge_only && job_.num_shards == 1) parts_->await_all(wait_s);
      // Its shards ran on other machines a moment ago, or not at all: merge() says which are missing.
      if (job_.merge_only && !parts_->are_there(0)) {
        log::info("not all chunks of '{}' are there: waiting up to {} for a file system that shows them late",
                  path_.string(), human_seconds(wait_s));
        parts_->are_there(wait_s);
      }
      if (!job_.merge_only && !parts_->complete()) return;
      if (lock_->path() != lock_path() && !lock_for_merging()) return;
      sha256 = parts_->merge();
      if (!settings_.pool.keep_parts) parts_->remove();
    });
    sha256 = comm::from_root(*context_.everyone, sha256, 0, "merged pool");
    return {.merged = !sha256.empty(), .content_sha256 = sha256};
  }

  const Settings& settings_;
  const RunText& text_;
  RewardPrograms& programs_;
  PoolJob job_;
  const std::function<void(const PoolProgress&)>& observer_;
  fs::path path_;
  RankContext context_;
  Identities identities_;
  std::optional<Tokenizer> tokenizer_;
  LmSpec spec_;
  Prompts prompts_;
  PoolHeader header_;
  std::unique_ptr<PoolParts> parts_;
  std::optional<FileLock> lock_;  // the root's
  CausalLm reference_;
  SamplerWeights sampler_weights_;
  std::unique_ptr<RewardModel> reward_, evaluator_;
  std::vector<std::unique_ptr<RewardModel>> more_;  // of section rewards
};

}  // namespace

PoolResult run_pool_job(comm::Communicator& world, const Settings& settings, const RunText& text,
                        RewardPrograms& programs, const PoolJob& job,
                        const std::function<void(const PoolProgress&)>& observer) {
  return PoolWork(world, settings, text, programs, job, observer).run();
}

}  // namespace vbon
