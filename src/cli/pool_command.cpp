#include <cstdio>
#include <memory>

#include "cli/stage.hpp"
#include "vbon/base/log.hpp"
#include "vbon/cli/progress.hpp"
#include "vbon/train/pool_job.hpp"

namespace vbon::cli {
namespace {

ExitCode make_pool(comm::Communicator& world, const CommandLine& line, RewardPrograms& programs, PoolOf which,
                   const Settings& settings, const RunText& text) {
  const bool train = which == PoolOf::train;
  const std::string& path = train ? settings.pool.path : settings.pool.eval_path;
  std::unique_ptr<Progress> progress;
  const auto observer = [&](const PoolProgress& p) {
    if (!progress)
      progress = start_progress(
          line, settings,
          {.what = train ? "pool" : "evaluation pool", .unit = "samples", .total = p.total, .done_before = p.already});
    progress->update(p.done, fmt::format("reward {:.3f}", p.mean_reward));
  };
  const PoolResult result = run_pool_job(
      world, settings, text, programs,
      {.which = which, .shard = line.shard, .num_shards = line.num_shards, .merge_only = line.merge}, observer);
  if (result.code != ExitCode::ok) return result.code;
  if (progress) progress->finish();
  if (result.merged) log::info("pool: {} (content {:.12})", path, result.content_sha256);
  else log::info("this shard is done; when all are, make the pool with `vbon pool --merge`");
  return ExitCode::ok;
}

}  // namespace

ExitCode run_pool_command(comm::Communicator& world, const CommandLine& line, Prepared& prepared) {
  const Settings& settings = prepared.loaded.settings();
  std::vector<std::string> found = problems(settings.sampling, /*allow_truncation=*/false);
  for (std::string& text : problems(settings.reward, "reward")) found.push_back(std::move(text));
  if (settings.evaluator.configured())
    for (std::string& text : problems(settings.evaluator, "evaluator")) found.push_back(std::move(text));
  for (std::string& text : problems(settings.pool)) found.push_back(std::move(text));
  for (std::string& text : more_reward_problems(settings)) found.push_back(std::move(text));
  for (std::string& text : evaluation_problems(settings)) found.push_back(std::move(text));
  const bool train = line.split != "eval" && line.evaluations.empty() && !settings.pool.path.empty();
  const bool eval = line.split != "train" && (!settings.pool.eval_path.empty() || !settings.evaluations.empty());
  if (!train && !eval) found.push_back("neither pool.path nor pool.eval_path is set for the prompts asked for");
  if (train && settings.prompts.train.empty()) found.push_back("prompts.train is not set; pool.path needs it");
  if (eval && settings.prompts.eval.empty()) found.push_back("prompts.eval is not set; pool.eval_path needs it");
  refuse(found);
  const std::vector<NamedEvaluation> evaluations =
      eval ? evaluations_of(line, prepared.loaded) : std::vector<NamedEvaluation>();
  if (announce(line, prepared.loaded)) return ExitCode::ok;
  if (train)
    if (const ExitCode code = make_pool(world, line, prepared.programs, PoolOf::train, settings, prepared.loaded.text);
        code != ExitCode::ok)
      return code;
  for (const NamedEvaluation& one : evaluations)
    if (const ExitCode code = make_pool(world, line, prepared.programs, PoolOf::eval, one.settings, one.text);
        code != ExitCode::ok)
      return code;
  return ExitCode::ok;
}

}  // namespace vbon::cli
