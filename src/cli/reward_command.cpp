#include <cmath>
#include <memory>

#include "cli/stage.hpp"
#include "vbon/base/log.hpp"
#include "vbon/cli/progress.hpp"
#include "vbon/train/rank_context.hpp"
#include "vbon/train/reward_training.hpp"

namespace vbon::cli {
namespace {

std::string metrics_text(const LabelMetrics& m) {
  if (m.texts == 0) return "";
  std::string text = fmt::format("held out ({} {}):", m.texts, m.of_pairs ? "pairs" : "texts");
  const auto add = [&](const char* name, double value) {
    if (std::isfinite(value)) text += fmt::format(" {} {:.3f}", name, value);
  };
  add("loss", m.loss);
  add("accuracy", m.accuracy);
  add("AUC", m.auc);
  add("calibration error", m.calibration);
  return text;
}

ExitCode make_reward_model(RankContext& context, const CommandLine& line, const Prepared& prepared,
                           const std::string& section, const RewardConfig& config) {
  const Settings& settings = prepared.loaded.settings();
  std::unique_ptr<Progress> progress;
  const RewardTrainingResult result = train_reward(
      config, *context.learners,
      {.section = section,
       .seed = static_cast<std::uint64_t>(*settings.run.seed),
       .device = context.device,
       .resolved_config = prepared.loaded.text.resolved_yaml,
       .observer = [&](const RewardTrainingProgress& p) {
         if (!progress)
           progress = start_progress(line, settings, {.what = section, .unit = "updates", .total = p.total});
         progress->update(p.update, fmt::format("loss {:.3f}", p.loss));
       }});
  if (result.code != ExitCode::ok) return result.code;
  if (progress) progress->finish();
  if (result.skipped) log::info("'{}' is there and was made so: nothing to do", config.path);
  else log::info("{}: {}  {}", section, config.path, metrics_text(result.heldout));
  return ExitCode::ok;
}

}  // namespace

ExitCode run_reward_command(comm::Communicator& world, const CommandLine& line, Prepared& prepared) {
  const Settings& settings = prepared.loaded.settings();
  std::vector<RewardSection> wanted;
  if (line.section == "both") wanted = trained_rewards(settings);
  else wanted.push_back({line.section, line.section == "reward" ? settings.reward : settings.evaluator});
  require(!wanted.empty(),
          "nothing to train: reward.train.labels, evaluator.train.labels or rewards.NAME.train.labels has to be set");
  std::vector<std::string> found;
  for (const RewardSection& w : wanted)
    for (std::string& text : training_problems(w.config, w.name)) found.push_back(std::move(text));
  refuse(found);
  if (announce(line, prepared.loaded)) return ExitCode::ok;
  RankContext context = make_uniform_context(world, settings.cluster);  // every rank takes its share of each batch
  for (const RewardSection& w : wanted)
    if (const ExitCode code = make_reward_model(context, line, prepared, w.name, w.config); code != ExitCode::ok)
      return code;
  return ExitCode::ok;
}

}  // namespace vbon::cli
