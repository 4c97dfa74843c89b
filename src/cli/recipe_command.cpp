// `vbon run`: the stages of a recipe in their order. Each stage is its own command and skips what is done, so a killed
// recipe started again goes on where it was.
#include <algorithm>
#include <chrono>
#include <functional>
#include <ranges>
#include <string>

#include "cli/stage.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/words.hpp"
#include "vbon/store/run_folder.hpp"

namespace vbon::cli {
namespace {

struct Stage {
  std::string name;
  bool wanted;
  std::function<ExitCode()> run;
};

}  // namespace

ExitCode run_recipe_command(comm::Communicator& world, const CommandLine& given, Prepared& prepared) {
  const Settings& settings = prepared.loaded.settings();
  require(!needs_pool(settings) || !settings.pool.path.empty(),
          "'pool.path' has to be set: method {} learns from a pool", enum_name(settings.train.method));
  if (announce(given, prepared.loaded)) return ExitCode::ok;
  // The configuration is on screen: stages do not print it again.
  CommandLine line = given;
  line.announced = true;
  const auto with = [&](ExitCode (*command)(comm::Communicator&, const CommandLine&, Prepared&)) {
    return [&, command] { return command(world, line, prepared); };
  };
  const bool evaluates = !settings.pool.eval_path.empty() && !settings.prompts.eval.empty();
  const std::vector<Stage> stages = {
      {"reward", !trained_rewards(settings).empty(), with(run_reward_command)},
      {"sft", !settings.sft.text.empty(), with(run_sft_command)},
      {"pool", !settings.pool.path.empty() || !settings.pool.eval_path.empty() || !settings.evaluations.empty(),
       with(run_pool_command)},
      {"amortise", !settings.amortised.path.empty(), with(run_amortise_command)},
      {"train", true,
       [&] {
         if (is_finished_run(settings.run.dir)) {
           log::info("'{}' is finished: nothing to train", settings.run.dir);
           return ExitCode::ok;
         }
         return run_train_command(world, line, prepared);
       }},
      {"eval", evaluates, with(run_eval_command)},
  };
  const auto place = [&](const std::string& name) { return std::ranges::find(stages, name, &Stage::name); };
  const auto first = line.from.empty() ? stages.begin() : place(line.from);
  const auto end = line.until.empty() ? stages.end() : place(line.until) + 1;
  require(first < end, "--until {} stops before --from {} begins: name stages in their order", line.until, line.from);
  for (const Stage& stage : std::ranges::subrange(first, end)) {
    if (!stage.wanted) continue;
    log::info("== {}", stage.name);
    const auto start = std::chrono::steady_clock::now();
    if (const ExitCode code = stage.run(); code != ExitCode::ok) return code;
    log::info("== {}: {}", stage.name,
              human_seconds(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()));
  }
  return ExitCode::ok;
}

}  // namespace vbon::cli
