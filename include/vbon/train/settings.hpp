// The whole configuration: every section in one record, each defined beside what it configures. Commands read the
// sections that they need.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vbon/base/fields.hpp"
#include "vbon/comm/placement.hpp"
#include "vbon/generate/sampling.hpp"
#include "vbon/objective/ppo_config.hpp"
#include "vbon/objective/vbon_config.hpp"
#include "vbon/reward/reward_config.hpp"
#include "vbon/store/checkpoint.hpp"
#include "vbon/store/rollout_files.hpp"
#include "vbon/train/cdf_head.hpp"
#include "vbon/train/method.hpp"
#include "vbon/train/mixture_config.hpp"
#include "vbon/train/offline_config.hpp"
#include "vbon/train/optimizer.hpp"
#include "vbon/train/trainable.hpp"

namespace vbon {

enum class Dtype { f32, bf16 };
std::span<const std::pair<Dtype, std::string_view>> enum_names(Dtype);
enum class SftLoss { response, whole };
std::span<const std::pair<SftLoss, std::string_view>> enum_names(SftLoss);

// How learners' gradients are summed: in the order of ranks, or by parts that do not depend on their number.
enum class Reduce { by_rank, fixed };
std::span<const std::pair<Reduce, std::string_view>> enum_names(Reduce);

struct RunSection {
  std::string dir;
  std::optional<std::int64_t> seed;
  Reduce reduce = Reduce::by_rank;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.dir,
      {.name = "dir",
       .help =
           "folder of this run: everything it writes; it may be moved between an interrupted run and its resumption",
       .required = true});
    v(c.seed,
      {.name = "seed", .help = "of every draw; two runs with the same seed give the same bytes", .required = true});
    v(c.reduce, {.name = "reduce",
                 .help = "by_rank: gradients are summed rank by rank; fixed: 1, 2, 4 or 8 learners give the same bits, "
                         "at a cost"});
  }
};

struct ModelSection {
  std::string base;
  std::string reference;
  std::optional<std::int64_t> start_token;
  Dtype dtype = Dtype::f32;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.base, {.name = "base", .help = "Hugging Face folder that `vbon sft` starts from", .required = true});
    v(c.reference, {.name = "reference",
                    .help = "folder of the reference: written by `vbon sft`, read by the others",
                    .required = true});
    v(c.start_token,
      {.name = "start_token", .help = "token id put before every prompt and text; none: as the tokenizer gives it"});
    v(c.dtype, {.name = "dtype", .help = "f32 or bf16 (CUDA only), of weights and activations"});
  }
};

// A reward beside the main one, with an N of its own: the target gains the factor w_N of it.
struct MoreReward {
  double n = 2;
  RewardConfig reward;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.n, {.name = "N", .help = "how much of it: the objective gains (N-1) log F of this reward; 1: only measured"});
    RewardConfig::visit(v, c.reward);
  }
};

struct PromptsSection {
  std::string train, eval;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.train,
      {.name = "train", .help = "prompts to train on: JSON Lines {prompt, id?} or plain lines", .required = true});
    v(c.eval, {.name = "eval", .help = "prompts to evaluate on; none of them in `train`", .required = true});
  }
};

struct PoolSection {
  std::string path, eval_path;
  std::int64_t samples = 64;
  std::int64_t use = 0;
  std::int64_t prefix_every = 0;
  std::int64_t prefix_samples = 0;
  bool keep_trunk = false;
  std::int64_t chunk_prompts = 0;
  bool keep_parts = false;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.path,
      {.name = "path", .help = "pool.h5 of prompts.train: written by `vbon pool`, read by training", .required = true});
    v(c.eval_path, {.name = "eval_path",
                    .help = "pool.h5 of prompts.eval: written by `vbon pool`, read by evaluation",
                    .required = true});
    v(c.samples, {.name = "samples",
                  .help = "M, reference samples a prompt; at least 2, at least 2N is advised",
                  .unit = "samples"});
    v(c.use,
      {.name = "use", .help = "training uses the first m samples a prompt of its pool; 0: all", .unit = "samples"});
    v(c.prefix_every,
      {.name = "prefix_every",
       .help = "in the pool of prompts.train, score responses also as if they ended after every so many tokens, for "
               "regression.credit and ppo.baseline: prefix; 0: no",
       .unit = "tokens"});
    v(c.prefix_samples, {.name = "prefix_samples",
                         .help = "of each prompt, the first so many samples' prefixes are scored, and regression by "
                                 "credit: prefix takes these alone; 0: all",
                         .unit = "samples"});
    v(c.keep_trunk,
      {.name = "keep_trunk",
       .help =
           "in the pool of prompts.train, keep what enters the first block of train.layers: regression then runs the "
           "trained blocks alone"});
    v(c.chunk_prompts, {.name = "chunk_prompts",
                        .help = "prompts drawn together: the unit of work; 0: enough to fill sampling.slots",
                        .unit = "prompts"});
    v(c.keep_parts, {.name = "keep_parts", .help = "keep the folder of parts after the pool is merged"});
  }
};

struct SftSection {
  std::string text, heldout;
  SftLoss loss = SftLoss::response;
  TrainedLayers layers;
  std::int64_t epochs = 1;
  std::int64_t batch = 16;
  std::int64_t micro_batch = 16;
  std::int64_t max_length = 256;
  std::int64_t max_texts = 0;
  std::int64_t max_heldout = 0;
  OptimizerConfig optimizer;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.text, {.name = "text", .help = "texts to learn: JSON Lines {text} or {prompt, response}", .required = true});
    v(c.heldout, {.name = "heldout", .help = "texts for the perplexity before and after; none: not measured"});
    v(c.loss,
      {.name = "loss", .help = "what of {prompt, response} is learned: response (the prompt is context) or whole"});
    v(c.layers, {.name = "layers", .help = "all, or last K (with the final norm and an untied head)"});
    v(c.epochs, {.name = "epochs", .help = "passes over the texts"});
    v(c.batch, {.name = "batch", .help = "texts an update", .unit = "texts"});
    v(c.micro_batch,
      {.name = "micro_batch", .help = "texts run at once by a rank; changes memory, not results", .unit = "texts"});
    v(c.max_length, {.name = "max_length", .help = "texts are cut after this many tokens", .unit = "tokens"});
    v(c.max_texts, {.name = "max_texts", .help = "use the first texts only; 0: all", .unit = "texts"});
    v(c.max_heldout, {.name = "max_heldout", .help = "the same of the held-out texts", .unit = "texts"});
    v(c.optimizer, {.name = "optimizer", .help = "optimiser of `vbon sft`"});
  }
};

struct TrainSection {
  Method method = Method::vbon;
  TrainedLayers layers;
  std::int64_t steps = 100;
  std::int64_t prompts_per_step = 16;
  std::int64_t samples_per_prompt = 4;
  std::int64_t minibatches = 1;
  std::int64_t micro_batch = 32;
  std::int64_t chunk_prompts = 0;
  std::int64_t warm_start = 0;
  bool recompute = false;
  double reference_cache_mib = 1024;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.method, {.name = "method", .help = method_help()});
    v(c.layers, {.name = "layers", .help = "all, or last K: the frozen trunk below runs once a rollout batch"});
    v(c.steps, {.name = "steps",
                .help = "online steps (or, for offline methods, updates), warm start included",
                .unit = "steps"});
    v(c.prompts_per_step, {.name = "prompts_per_step", .help = "prompts of an online step", .unit = "prompts"});
    v(c.samples_per_prompt,
      {.name = "samples_per_prompt", .help = "responses drawn to each of them; rloo needs 2", .unit = "samples"});
    v(c.minibatches, {.name = "minibatches", .help = "updates an epoch: the batch in that many keyed parts"});
    v(c.micro_batch, {.name = "micro_batch",
                      .help = "sequences a learner runs at once; changes memory, not results",
                      .unit = "sequences"});
    v(c.chunk_prompts, {.name = "chunk_prompts",
                        .help = "prompts a chunk; 0: about 64 sequences; a step has at least one chunk a learner",
                        .unit = "prompts"});
    v(c.warm_start, {.name = "warm_start",
                     .help = "online methods: begin with this many updates of regression on the pool",
                     .unit = "steps"});
    v(c.recompute, {.name = "recompute",
                    .help = "trained blocks keep their input alone and are computed again by the backward pass: less "
                            "memory, about a third more work"});
    v(c.reference_cache_mib,
      {.name = "reference_cache_mib",
       .help = "memory for the reference's logits of a batch; beyond it they are computed again each epoch",
       .unit = "MiB"});
  }
};

struct EvalSection {
  std::int64_t samples = 16;
  std::int64_t every = 0;
  std::optional<std::int64_t> seed;
  std::vector<double> bon_n = {1, 2, 4, 8, 16, 32};
  std::string checkpoint;
  std::int64_t bootstrap = 2000;
  bool exact = false;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.samples, {.name = "samples", .help = "K, samples a prompt", .unit = "samples"});
    v(c.every, {.name = "every",
                .help = "evaluate every so many steps while training, step 0 included; 0: not",
                .unit = "steps"});
    v(c.seed, {.name = "seed", .help = "of evaluation's draws; default: run.seed"});
    v(c.bon_n, {.name = "bon_n", .help = "the N of the Best-of-N curve beside the policy"});
    v(c.checkpoint, {.name = "checkpoint",
                     .help = "what `vbon eval` evaluates: a model folder; default: the run's latest checkpoint"});
    v(c.bootstrap, {.name = "bootstrap", .help = "resamples of the intervals", .unit = "resamples"});
    v(c.exact,
      {.name = "exact",
       .help = "`vbon eval` also lists every response and reports exact figures, among them the distance to the "
               "method's optimum: for models of a few tokens, on one rank"});
  }
};

// One of the evaluations beside that of prompts.eval: of the same policy on other prompts or at another temperature,
// against reference samples drawn for it.
struct EvaluationSection {
  std::string prompts, pool;
  std::optional<double> temperature;
  std::int64_t samples = 0;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.prompts, {.name = "prompts", .help = "prompts to evaluate on; default: prompts.eval"});
    v(c.pool, {.name = "pool",
               .help = "pool.h5 of these prompts at this temperature: written by `vbon pool`, read by evaluation",
               .required = true});
    v(c.temperature, {.name = "temperature", .help = "of policy and reference; default: sampling.temperature"});
    v(c.samples, {.name = "samples", .help = "K, samples a prompt; 0: eval.samples", .unit = "samples"});
  }
};

struct LogSection {
  double every_s = 10;
  bool all_ranks = false;
  bool rank_files = false;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.every_s, {.name = "every_s", .help = "seconds between progress lines in a log file", .unit = "s"});
    v(c.all_ranks, {.name = "all_ranks", .help = "let every rank speak, not the root alone"});
    v(c.rank_files,
      {.name = "rank_files",
       .help = "training: all lines of every rank also in a file of its own, logs/rank-00000.log in the run folder"});
  }
};

struct Settings {
  RunSection run;
  ModelSection model;
  SftSection sft;
  RewardConfig reward, evaluator;
  std::map<std::string, MoreReward> rewards;
  PromptsSection prompts;
  SamplingConfig sampling;
  PoolSection pool;
  AmortisedSection amortised;
  TrainSection train;
  VbonConfig vbon;
  PpoConfig ppo;
  MixtureSection mixture;
  BondSection bond;
  AnchorSection anchor;
  RegressionSection regression;
  InfoncaSection infonca;
  BonSftSection bon_sft;
  PreferenceSection preference;
  BonbonSection bonbon;
  OptimizerConfig optimizer;
  EvalSection eval;
  std::map<std::string, EvaluationSection> evaluations;
  comm::ClusterConfig cluster;
  RolloutsConfig rollouts;
  CheckpointConfig checkpoint;
  LogSection log;

  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.run, {.name = "run", .help = "where a run lives, and its seed"});
    v(c.model, {.name = "model", .help = "the language model"});
    v(c.sft, {.name = "sft", .help = "supervised fine-tuning: base -> reference"});
    v(c.reward, {.name = "reward", .help = "the reward that is trained on"});
    v(c.evaluator, {.name = "evaluator", .help = "a second reward that is never trained against"});
    v(c.rewards, {.name = "rewards",
                  .help = "rewards beside the main one, by a name of yours: the target is then pi_ref times w_N "
                          "of each"});
    v(c.prompts, {.name = "prompts", .help = "prompts to train and to evaluate on"});
    v(c.sampling, {.name = "sampling", .help = "how responses are drawn, everywhere"});
    v(c.pool, {.name = "pool", .help = "scored reference samples: log F tables and data of offline methods"});
    v(c.amortised, {.name = "amortised",
                    .help = "F from the prompt's embedding: for prompts that the pool lacks, or as a prior beside it"});
    v(c.train, {.name = "train", .help = "the training loop"});
    v(c.vbon, {.name = "vbon", .help = "which Best-of-N is the target"});
    v(c.ppo, {.name = "ppo", .help = "the policy-gradient loop of vbon and ppo"});
    v(c.mixture, {.name = "mixture", .help = "methods jeffreys, bond and jbond: both directions of the KL"});
    v(c.bond, {.name = "bond", .help = "methods bond and jbond"});
    v(c.anchor, {.name = "anchor", .help = "methods jbond and bond: a policy that follows the trained one"});
    v(c.regression, {.name = "regression", .help = "regression of log pi/pi_ref on log w_N, from the pool"});
    v(c.infonca, {.name = "infonca", .help = "method infonca: w_N tells a few samples of a prompt apart"});
    v(c.bon_sft, {.name = "bon_sft", .help = "method bon_sft: -log pi of the pool's best of vbon.N"});
    v(c.preference, {.name = "preference", .help = "methods dpo, ipo and slic: pairs of the pool's samples"});
    v(c.bonbon, {.name = "bonbon", .help = "method bonbon: the best and the worst of vbon.N samples of the pool"});
    v(c.optimizer, {.name = "optimizer", .help = "AdamW, its schedule and clipping, in training"});
    v(c.eval, {.name = "eval", .help = "evaluation on held-out prompts"});
    v(c.evaluations, {.name = "evaluations",
                      .help = "more evaluations of the same policy, by a name of yours: other prompts, another "
                              "temperature; may change on resume"});
    v(c.cluster, {.name = "cluster", .help = "ranks, roles, devices, time limits; all but lag may change on resume"});
    v(c.rollouts, {.name = "rollouts", .help = "what stays of each step's samples"});
    v(c.checkpoint, {.name = "checkpoint", .help = "when checkpoints are written, which stay; may change on resume"});
    v(c.log, {.name = "log", .help = "progress lines; may change on resume"});
  }
};

// The prompts of a chunk of an online step, and of a pool: functions of the configuration alone.
std::int64_t train_chunk_prompts(const Settings& settings);
std::int64_t pool_chunk_prompts(const Settings& settings);
std::int64_t prefix_samples(const Settings& settings);  // of a prompt, where pool.prefix_every asks for prefixes

// What a run's target is called by: N and its KL weight, or the weight alone (N is then 1).
struct Strength {
  double n = 1, beta = 0;
};
Strength strength_of(const Settings& settings);

// What multiplies the objective in nats: objective_scale, the N - 1 of all rewards taken together.
double total_scale(const Settings& settings, const VbonConfig& target);

// b of a mixed method: what the policy gradient weighs; 1 for the others.
double gradient_share(const Settings& settings);

bool has_anchor(const Settings& settings);
std::int64_t anchor_samples(const Settings& settings);  // a prompt and online step; 0 without an anchor
bool needs_pool(const Settings& settings);              // of prompts.train
bool reads_pool(const Settings& settings);              // needs it, or takes figures from it where it is given

std::vector<std::string> problems(const PoolSection& section);
std::vector<std::string> problems(const SftSection& section);
// The name of the evaluation on prompts.eval, which no other can have.
inline constexpr std::string_view kMainEvaluation = "final";
// The settings under which evaluation `name` of section evaluations is the main one.
Settings for_evaluation(const Settings& settings, const std::string& name);
std::vector<std::string> evaluation_problems(const Settings& settings);
// What is wrong with section rewards for scoring.
std::vector<std::string> more_reward_problems(const Settings& settings);
// What is wrong with the sections that training (or any sampling) reads, all at once; empty: nothing.
std::vector<std::string> problems(const Settings& settings);

}  // namespace vbon
