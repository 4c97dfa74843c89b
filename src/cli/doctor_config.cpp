// Every file and folder that a configuration names, opened as its commands would open it.
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <set>

#include "cli/bounded.hpp"
#include "cli/doctor.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/words.hpp"
#include "vbon/model/hf_weights.hpp"
#include "vbon/model/text_classifier.hpp"
#include "vbon/store/checkpoint.hpp"
#include "vbon/store/lock.hpp"
#include "vbon/store/run_folder.hpp"
#include "vbon/store/safetensors.hpp"
#include "vbon/text/records.hpp"
#include "vbon/train/run_inputs.hpp"

namespace vbon::cli {
namespace {

constexpr std::uint64_t kMostHashed = std::uint64_t{8} << 30;  // bytes of weights whose SHA-256 is worth the wait
constexpr double kMostProgramSeconds = 30;                     // for a reward program's first answers

std::string in_quotes(const fs::path& path) { return fmt::format("'{}'", path.string()); }

// Whether a file can be made at `path`: the nearest folder above that exists can be written.
bool can_be_made(const fs::path& path) {
  std::error_code error;
  fs::path there = fs::absolute(path, error).parent_path();
  while (!fs::exists(there, error) && there != there.root_path()) there = there.parent_path();
  return fs::is_directory(there, error) && ::access(there.c_str(), W_OK | X_OK) == 0;
}

class ConfigurationCheck {
 public:
  ConfigurationCheck(Findings& findings, const Loaded& loaded) : f_(findings), loaded_(loaded), s_(loaded.settings()) {}

  void run() {
    faults();
    base();
    reference();
    texts("sft", "sft.text", s_.sft.text, reference_found_);
    texts("sft", "sft.heldout", s_.sft.heldout, reference_found_);
    const bool reward = reward_of("reward", s_.reward);
    const bool evaluator = !s_.evaluator.configured() || reward_of("evaluator", s_.evaluator);
    prompts("prompts.train", s_.prompts.train, train_);
    prompts("prompts.eval", s_.prompts.eval, eval_);
    overlap();
    if (reward && evaluator) identities();
    pool("pool.path", s_.pool.path, train_);
    pool("pool.eval_path", s_.pool.eval_path, eval_);
    run_folder();
  }

 private:
  // Runs `work`; a UserError becomes a finding. True: it went well.
  template <class Work>
  bool guarded(const std::string& area, const std::string& remedy, const Work& work) {
    try {
      work();
      return true;
    } catch (const std::exception& e) {
      f_.bad(area, e.what(), remedy);
      return false;
    }
  }

  void faults() {
    std::vector<std::string> found = problems(s_);
    const auto take = [&](std::vector<std::string> more) {
      std::move(more.begin(), more.end(), std::back_inserter(found));
    };
    if (!s_.sft.text.empty()) take(problems(s_.sft));
    if (s_.reward.configured()) take(problems(s_.reward, "reward"));
    if (s_.evaluator.configured()) take(problems(s_.evaluator, "evaluator"));
    for (std::string& text : found)
      f_.bad("configuration", std::move(text), "`vbon help config` says what each key may be");
    if (found.empty()) f_.ok("configuration", "the values of all keys can be used");
  }

  // A named input that must be a plain file (or, for folders, a folder). False: it is not, and that has been said.
  bool is_there(const std::string& area, const std::string& key, const fs::path& path, bool folder, bool needed) {
    std::error_code error;
    if (!fs::exists(path, error)) {
      const std::string text = fmt::format("{}: {} is not there", key, in_quotes(path));
      if (needed) f_.bad(area, text, "mend the path, or put it there (relative paths start at the folder you are in)");
      else f_.warn(area, text, "what it was for is done: nothing to do");
      return false;
    }
    if (folder ? fs::is_directory(path, error) : fs::is_regular_file(path, error)) return true;
    f_.bad(area, fmt::format("{}: {} is no {}", key, in_quotes(path), folder ? "folder" : "plain file"),
           "mend the path");
    return false;
  }

  // ---- language models

  bool language_model(const std::string& key, const fs::path& folder, std::optional<LmSpec>& spec,
                      std::optional<Tokenizer>& tokenizer) {
    const std::string area = "model", remedy = "fetch the folder again, or name another";
    if (!guarded(area, remedy, [&] { spec = read_lm_spec(folder); })) return false;
    bool good = guarded(area, remedy, [&] {
      tokenizer = Tokenizer::load(folder);
      require(tokenizer->vocab_size() <= spec->vocab_size,
              "{}: the tokenizer has {} tokens, the model's embedding {}: they do not belong together",
              in_quotes(folder), tokenizer->vocab_size(), spec->vocab_size);
    });
    good &= guarded(area, remedy, [&] {
      std::vector<std::string> faults = weight_problems(*spec, SafeTensors::open_folder(folder));
      const std::size_t count = faults.size();
      faults.resize(std::min<std::size_t>(count, 3));
      require(count == 0, "{}: {}{}", in_quotes(folder), joined(faults, "; "), count > 3 ? "; …" : "");
    });
    good &= model_fits(folder, *spec);
    if (good)
      f_.ok(area, "{} {}: {}, {:.1f} M parameters, tokenizer of {} tokens, all tensors in place", key,
            in_quotes(folder), spec->model_type, static_cast<double>(count_parameters(*spec)) / 1e6,
            tokenizer->vocab_size());
    return good;
  }

  // Whether the model has the tokens and positions that the configuration uses.
  bool model_fits(const fs::path& folder, const LmSpec& spec) {
    if (spec.eos_ids.empty())
      f_.warn("model",
              fmt::format("{}: no eos_token_id: responses end only at sampling.max_new_tokens", in_quotes(folder)),
              "name it in config.json");
    const std::int64_t start = s_.model.start_token.value_or(0), longest = s_.sampling.max_new_tokens;
    const bool has_start = start >= 0 && start<spec.vocab_size, has_room = spec.max_positions> longest;
    if (!has_start)
      f_.bad("model", fmt::format("model.start_token is {}, outside the vocabulary of {}", start, spec.vocab_size),
             "name a token of the model");
    if (!has_room)
      f_.bad("model",
             fmt::format("{}: {} positions, and sampling.max_new_tokens is {}", in_quotes(folder), spec.max_positions,
                         longest),
             "lower sampling.max_new_tokens");
    return has_start && has_room;
  }

  void base() {
    if (s_.model.base.empty()) return;
    std::optional<LmSpec> spec;
    std::optional<Tokenizer> tokenizer;
    if (is_there("model", "model.base", s_.model.base, true, !fs::exists(s_.model.reference)))
      language_model("model.base", s_.model.base, spec, tokenizer);
  }

  void reference() {
    const fs::path path = s_.model.reference;
    if (path.empty()) return f_.warn("model", "model.reference is not set", "every command but `vbon help` needs it");
    reference_found_ = fs::exists(path);
    if (reference_found_) {
      if (is_there("model", "model.reference", path, true, true))
        reference_good_ = language_model("model.reference", path, spec_, tokenizer_);
      return;
    }
    to_be_made("model", "model.reference", path, !s_.model.base.empty() && !s_.sft.text.empty(), "vbon sft",
               "give model.base and sft.text, or the folder of a model");
  }

  // An output of an earlier stage that is not there yet.
  void to_be_made(const std::string& area, const std::string& key, const fs::path& path, bool makeable,
                  const char* command, const std::string& otherwise) {
    const std::string text = fmt::format("{}: {} is not there yet", key, in_quotes(path));
    if (!makeable) f_.bad(area, text, otherwise);
    else if (!can_be_made(path))
      f_.bad(area, text + ", and cannot be made there", "name a folder that you may write to");
    else f_.warn(area, text, fmt::format("`{}` makes it", command));
  }

  // ---- rewards

  bool reward_of(const std::string& section, const RewardConfig& config) {
    if (!config.configured()) {
      f_.warn(section, section + " is not set", "commands that score need reward.path (or reward.command)");
      return false;
    }
    if (config.kind == RewardKind::exec) return program(section, config);
    const RewardTrainConfig& train = config.train;
    const bool found = fs::exists(config.path);
    labels(section, section + ".train.labels", train.labels, found);
    labels(section, section + ".train.heldout", train.heldout, found);
    if (!found) {
      if (!train.base.empty() && is_there(section, section + ".train.base", train.base, true, true))
        classifier_base(section, train.base);
      to_be_made(section, section + ".path", config.path, !train.labels.empty(), "vbon reward",
                 fmt::format("give {}.train.labels, or the folder of a model", section));
      return false;
    }
    if (!is_there(section, section + ".path", config.path, true, true)) return false;
    return guarded(section, "fetch or make the folder again (`vbon reward`), or name another", [&] {
      RewardModel model = make_reward(config, at::kCPU);
      const std::vector<PromptResponse> pair = {{"The film was", " good."}};
      f_.ok(section, "{}.path {}: a {} that loads; it gives {:.3f} to \"The film was good.\"", section,
            in_quotes(config.path), enum_name(config.kind), model.score(pair).front());
    });
  }

  void classifier_base(const std::string& section, const fs::path& folder) {
    guarded(section, "fetch the folder again, or name another", [&] {
      const ClassifierFacts facts = facts_of(read_classifier_spec(folder));
      const Tokenizer tokenizer = Tokenizer::load(folder);
      const SafeTensors weights = SafeTensors::open_folder(folder);
      f_.ok(section, "{}.train.base {}: {}, {} tensors, tokenizer of {} tokens", section, in_quotes(folder),
            facts.model_type, weights.tensors().size(), tokenizer.vocab_size());
    });
  }

  bool program(const std::string& section, const RewardConfig& config) {
    const std::string area = section;
    if (config.command.empty()) return false;
    if (find_program(config.command.front()).empty()) {
      f_.bad(area, fmt::format("{}.command: '{}' is no program here", section, config.command.front()),
             "give its path, or put it into PATH");
      return false;
    }
    ExecOptions options = exec_options(config);
    options.timeout_s = std::min(options.timeout_s, kMostProgramSeconds);
    options.startup_s = std::min(options.startup_s, kMostProgramSeconds);
    try {
      ExecProgram started(options);
      if (started.probe()) f_.ok(area, "{}.command: '{}' answers", section, config.command.front());
      else
        f_.warn(area,
                fmt::format("{}.command: '{}' gives one text two different rewards", section, config.command.front()),
                "scores will differ between ranks and restarts: make it deterministic");
      return true;
    } catch (const std::exception& e) {
      const bool slow = config.startup_s > kMostProgramSeconds;
      f_.bad(area, fmt::format("{}.command: {}", section, e.what()),
             slow ? fmt::format(
                        "it was given {:.0f} s here ({}.startup_s allows {:.0f}); run it by hand with one line of JSON",
                        kMostProgramSeconds, section, config.startup_s)
                  : "run it by hand with one line of JSON");
      return false;
    }
  }

  // ---- data

  void texts(const std::string& area, const std::string& key, const std::string& path, bool done) {
    if (path.empty() || !is_there(area, key, path, false, !done)) return;
    guarded(area, "mend these lines",
            [&] { f_.ok(area, "{} {}: {} texts", key, in_quotes(path), read_texts(path).size()); });
  }
  void labels(const std::string& area, const std::string& key, const std::string& path, bool done) {
    if (path.empty() || !is_there(area, key, path, false, !done)) return;
    guarded(area, "mend these lines", [&] {
      const RewardTexts texts = read_reward_texts(path);
      const auto* const labels = std::get_if<LabelSet>(&texts);
      f_.ok(area, "{} {}: {} {}", key, in_quotes(path),
            labels != nullptr ? labels->records.size() : std::get<std::vector<PairRecord>>(texts).size(),
            labels != nullptr ? "labelled texts" : "pairs");
    });
  }

  void prompts(const std::string& key, const std::string& path, std::optional<Prompts>& found) {
    if (path.empty()) {
      if (key == "prompts.train") f_.warn("prompts", key + " is not set", "`vbon pool` and `vbon train` need it");
      return;
    }
    if (!is_there("prompts", key, path, false, true)) return;
    guarded("prompts", "mend these lines", [&] {
      if (!reference_good_) {
        f_.ok("prompts", "{} {}: {} prompts (their length is checked when there is a model)", key, in_quotes(path),
              read_prompts(path).size());
        return;
      }
      found = load_prompts(path, s_, *tokenizer_, *spec_);
      std::int64_t longest = 0;
      for (std::int64_t row = 0; row < found->rows.num_prompts(); ++row)
        longest = std::max(longest, static_cast<std::int64_t>(found->rows.tokens_of(row).size()));
      f_.ok("prompts", "{} {}: {} prompts, the longest of {} tokens", key, in_quotes(path), found->rows.num_prompts(),
            longest);
    });
    if (found && key == "prompts.train" && !is_offline(s_.train.method) &&
        s_.train.prompts_per_step > found->rows.num_prompts())
      f_.bad("prompts",
             fmt::format("train.prompts_per_step is {}, but there are {} prompts", s_.train.prompts_per_step,
                         found->rows.num_prompts()),
             "lower it, or give more prompts");
  }

  void overlap() {
    if (!train_ || !eval_) return;
    const std::set<std::string> trained(train_->rows.text_sha256.begin(), train_->rows.text_sha256.end());
    const auto shared = std::count_if(eval_->rows.text_sha256.begin(), eval_->rows.text_sha256.end(),
                                      [&](const auto& hash) { return trained.contains(hash); });
    if (shared > 0)
      f_.warn("prompts",
              fmt::format("{} of {} evaluation prompts are training prompts, too", shared, eval_->rows.num_prompts()),
              "evaluate on others: figures would flatter");
  }

  // ---- pools

  void identities() {
    if (!reference_good_) return;
    std::uint64_t bytes = 0;
    const SafeTensors weights = SafeTensors::open_folder(s_.model.reference);
    for (const TensorView& view : weights.tensors()) bytes += view.bytes.size();
    if (bytes > kMostHashed) return;
    guarded("pool", "see the model and reward above", [&] { identities_ = identities_of(s_); });
  }

  void pool(const std::string& key, const std::string& path, const std::optional<Prompts>& prompts) {
    if (path.empty()) return;
    if (!fs::exists(path)) return to_be_made("pool", key, path, true, "vbon pool", "");
    if (!is_there("pool", key, path, false, true)) return;
    std::int64_t samples = 0;
    const bool good = guarded(
        "pool", "make it again with this configuration (`vbon pool` with another path), or undo the change", [&] {
          std::string forced;
          if (identities_ && prompts) {
            const UsedPool used = load_pool(path, s_, *prompts, *identities_, false, forced);
            samples = used.pool.header.num_samples;
            f_.ok("pool", "{} {}: {} prompts x {} samples, made with these models and prompts", key, in_quotes(path),
                  used.pool.block.num_prompts(), samples);
          } else {
            const Pool whole = read_pool(path);
            samples = whole.header.num_samples;
            f_.ok("pool", "{} {}: {} prompts x {} samples (not compared with models and prompts)", key, in_quotes(path),
                  whole.block.num_prompts(), samples);
          }
        });
    if (good && key == "pool.path" && has_target_n(s_.train.method) && problems(s_.vbon).empty())
      for (std::string& warning : warnings(s_.vbon, samples))
        f_.warn("pool", std::move(warning), "more samples (pool.samples), or a smaller N");
  }

  // ---- the run

  void run_folder() {
    const fs::path dir = s_.run.dir;
    if (dir.empty()) return f_.warn("run", "run.dir is not set", "`vbon train` needs a folder to write to");
    if (!fs::exists(dir)) {
      if (can_be_made(dir)) f_.ok("run", "run.dir {}: not there yet; a new run starts in it", in_quotes(dir));
      else
        f_.bad("run", fmt::format("run.dir {} cannot be made", in_quotes(dir)), "name a folder that you may write to");
      return;
    }
    if (fs::is_directory(dir) && is_finished_run(dir))
      return f_.warn(
          "run",
          fmt::format("run.dir {} holds a finished run: `vbon train` refuses it, `vbon eval` reads it", in_quotes(dir)),
          "name another folder for a new run");
    if (const std::optional<LockHolder> holder = lock_holder(dir / "lock"))
      return f_.warn(
          "run",
          fmt::format("run.dir {} is in use: process {} on {}{} since {}", in_quotes(dir), holder->pid, holder->host,
                      holder->job.empty() ? "" : fmt::format(" (job {})", holder->job), holder->started),
          "wait for it, or stop it");
    const RunFolderOptions options{
        .config = loaded_.text.resolved_yaml, .job = loaded_.text.job, .changed_keys = loaded_.text.changed_keys};
    if (!guarded("run", "name another folder, or undo the change", [&] { RunFolder::require_usable(dir, options); }))
      return;
    std::vector<std::string> skipped;
    const std::optional<Checkpoint> latest = CheckpointFiles(dir / "checkpoints").latest(skipped);
    for (std::string& line : skipped) f_.warn("run", std::move(line), "an older checkpoint is used instead");
    if (latest)
      f_.ok("run", "run.dir {}: resumes at step {} of {} (last written by {} ranks)", in_quotes(dir),
            latest->manifest.step, s_.train.steps, latest->manifest.world_size);
    else f_.ok("run", "run.dir {}: no checkpoint yet; the run starts at step 0", in_quotes(dir));
  }

  Findings& f_;
  const Loaded& loaded_;
  const Settings& s_;
  bool reference_found_ = false, reference_good_ = false;
  std::optional<LmSpec> spec_;
  std::optional<Tokenizer> tokenizer_;
  std::optional<Prompts> train_, eval_;
  std::optional<Identities> identities_;
};

}  // namespace

void check_configuration(Findings& findings, const Loaded& loaded) { ConfigurationCheck(findings, loaded).run(); }

}  // namespace vbon::cli
