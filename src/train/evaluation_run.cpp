#include "vbon/train/evaluation_run.hpp"

#include <optional>

#include "vbon/base/files.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/stop.hpp"
#include "vbon/comm/agree.hpp"
#include "vbon/model/hf_weights.hpp"
#include "vbon/objective/bon.hpp"
#include "vbon/store/checkpoint.hpp"
#include "vbon/store/lock.hpp"
#include "vbon/store/safetensors.hpp"
#include "vbon/train/exact.hpp"

namespace vbon {
namespace {

EvaluationRequest of_checkpoint(const Checkpoint& checkpoint, const Settings& settings, const std::string& name) {
  const std::int64_t step = checkpoint.manifest.step;
  return {.policy = checkpoint.folder / "policy",
          .output = fs::path(settings.run.dir) / "eval" / fmt::format("{}-{:08}", name, step),
          .step = step,
          .name = name,
          .method = std::string(enum_name(settings.train.method)),
          .run_id = checkpoint.manifest.run_id,
          .checkpoint_sha256 = parts_sha256(checkpoint.manifest)};
}

}  // namespace

EvaluationRequest evaluation_request(const Settings& settings, const std::string& name) {
  const fs::path given = settings.eval.checkpoint;
  if (given.empty()) {
    std::vector<std::string> skipped;
    const auto latest = CheckpointFiles(fs::path(settings.run.dir) / "checkpoints").latest(skipped);
    for (const std::string& line : skipped) log::warn("{}", line);
    require(latest.has_value(), "'{}' holds no valid checkpoint; train first, or name a model folder: eval.checkpoint",
            settings.run.dir);
    return of_checkpoint(*latest, settings, name);
  }
  if (fs::exists(given / "manifest.json")) return of_checkpoint(verify_checkpoint(given), settings, name);
  require(fs::exists(given / "config.json"), "eval.checkpoint '{}' is neither a checkpoint nor a model folder",
          given.string());
  const bool is_reference = fs::exists(settings.model.reference) && fs::equivalent(given, settings.model.reference);
  const std::string what = is_reference ? "reference" : given.filename().string();
  return {.policy = given,
          .output = fs::path(settings.run.dir) / "eval" / (name == kMainEvaluation ? what : name + "-" + what),
          .name = name,
          .method = is_reference ? "reference" : "model",
          .checkpoint_sha256 = folder_sha256(given)};
}

Evaluation run_evaluation(comm::Communicator& world, const Settings& settings, const RunText& text,
                          RewardPrograms& programs, const EvaluationRequest& request) {
  const stop::AtOnce signals_end_it;
  RankContext context = make_rank_context(world, settings.cluster, 0);
  require(!settings.eval.exact || world.size() == 1, "eval.exact is for one rank; there are {}", world.size());
  const Identities identities = identify(context, settings);
  std::optional<Prompts> prompts;
  std::optional<UsedPool> pool;
  std::optional<Tokenizer> tokenizer;
  LmSpec spec;
  CausalLm reference, policy_model;
  std::optional<Policy> policy;
  SamplerWeights sampler_weights;
  std::unique_ptr<RewardModel> reward, evaluator;
  std::vector<std::unique_ptr<RewardModel>> more;
  std::string forced;
  std::optional<FileLock> lock;
  const fs::path chunk_folder = request.output / "chunks";
  comm::together(*context.everyone, "loading", [&] {
    tokenizer = Tokenizer::load(settings.model.reference);
    spec = read_lm_spec(settings.model.reference);
    if (settings.eval.exact) require_listable(settings, spec);
    prompts = load_prompts(settings.prompts.eval, settings, *tokenizer, spec);
    pool = load_pool(settings.pool.eval_path, settings, *prompts, identities, text.force, forced);
    if (context.is(comm::Role::scorer)) {
      reward = load_reward(settings.reward, context.device, programs.reward);
      more = load_more_rewards(settings, context.device, programs);
      if (settings.evaluator.configured())
        evaluator = load_reward(settings.evaluator, context.device, programs.evaluator);
    }
    const at::ScalarType dtype = scalar_type(settings.model.dtype);
    if (context.is(comm::Role::learner)) reference = load_causal_lm(settings.model.reference, context.device, dtype);
    if (context.is(comm::Role::learner) || context.is(comm::Role::rollout)) {
      policy_model = load_causal_lm(request.policy, context.device, dtype);
      require(policy_model.spec.vocab_size == spec.vocab_size, "'{}' has another vocabulary than the reference",
              request.policy.string());
      policy = make_policy(policy_model,
                           reference.blocks.empty() ? TrainedLayers{} : differing_layers(reference, policy_model));
    }
    if (!context.is_root()) return;
    make_folders(chunk_folder);
    lock.emplace(request.output / "lock", LockHolder{.job = text.job});
  });
  std::string block = policy && settings.rollouts.carry_trunk ? std::to_string(policy->first_trained_block) : "0";
  block = comm::from_root(*context.everyone, block, context.placement.learner_root(), "first trained block");
  const RolloutFiles chunks(chunk_folder, Keep::all(), file_wait_s(settings.cluster));
  EvalHeader header = eval_header(settings, provenance_of(context, settings, text.resolved_yaml, identities), *prompts,
                                  *pool, spec, request.method, request.step);
  header.evaluation = request.name;
  header.checkpoint_sha256 = request.checkpoint_sha256;
  header.provenance.run_id = request.run_id;
  header.provenance.forced = forced;
  Evaluation result = evaluate(context, settings,
                               {.prompts = *prompts,
                                .pool = *pool,
                                .collection = {.policy = context.is(comm::Role::rollout) ? &policy_model : nullptr,
                                               .weights = &sampler_weights,
                                               .tokenizer = &*tokenizer,
                                               .reward = reward.get(),
                                               .evaluator = evaluator.get(),
                                               .more = pointers_to(more)},
                                .reference = context.is(comm::Role::learner) ? &reference : nullptr,
                                .policy = context.is(comm::Role::learner) ? &*policy : nullptr,
                                .header = header,
                                .chunks = &chunks,
                                .trunk_block = std::stoll(block)});
  if (settings.eval.exact)
    comm::together(*context.everyone, "listing every response", [&] {
      result.exact = exact_figures(settings, *prompts, *tokenizer, *reward, pointers_to(more), reference, *policy);
      for (const auto& [name, value] : result.exact) result.file.summary["exact." + name] = value;
    });
  comm::together(*context.everyone, "writing the evaluation", [&] {
    if (!context.is_root()) return;
    chunks.clean();
    std::error_code ignored;
    fs::remove(chunk_folder, ignored);  // only if empty
    write_eval(request.output / "eval.h5", result.file);
    write_file_atomically(request.output / "summary.json", summary_json(result));
  });
  return result;
}

}  // namespace vbon
