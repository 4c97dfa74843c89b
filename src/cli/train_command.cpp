#include <memory>

#include "cli/stage.hpp"
#include "vbon/base/log.hpp"
#include "vbon/cli/progress.hpp"

namespace vbon::cli {

ExitCode run_train_command(comm::Communicator& world, const CommandLine& line, Prepared& prepared) {
  const Settings& settings = prepared.loaded.settings();
  std::vector<std::string> found = problems(settings);
  for (std::string& text : problems(settings.reward, "reward")) found.push_back(std::move(text));
  if (needs_pool(settings) && settings.pool.path.empty())
    found.push_back(fmt::format("pool.path is not set; method {} reads a pool, which `vbon pool` writes",
                                enum_name(settings.train.method)));
  if (settings.eval.every > 0 && (settings.prompts.eval.empty() || settings.pool.eval_path.empty()))
    found.push_back("eval.every needs prompts.eval and pool.eval_path");
  refuse(found);
  if (announce(line, prepared.loaded)) return ExitCode::ok;

  std::unique_ptr<Progress> progress;
  const TrainingObserver observer{
      .started =
          [&](std::int64_t done) {
            progress = start_progress(
                line, settings, {.what = "train", .unit = "steps", .total = settings.train.steps, .done_before = done});
          },
      .step = [&](std::int64_t done, std::int64_t,
                  const Metrics& metrics) { progress->update(done, figures_text(metrics)); },
      .evaluated =
          [&](std::int64_t step, const Evaluation& evaluation) {
            log::info("evaluation at step {}:\n{}", step, evaluation_text(evaluation));
          }};
  const TrainingResult result = run_training(world, settings, prepared.loaded.text, prepared.programs, observer);
  if (result.code == ExitCode::ok) {
    if (progress) progress->finish();
    if (!result.final_checkpoint.empty()) log::info("policy: {}/policy", result.final_checkpoint);
  }
  return result.code;
}

}  // namespace vbon::cli
