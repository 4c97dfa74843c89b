#include "cli/stage.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>

#include "vbon/base/error.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/words.hpp"
#include "vbon/cli/table.hpp"

namespace vbon::cli {

bool announce(const CommandLine& line, const Loaded& loaded) {
  if (log::is_root() && !line.quiet && !line.announced) fmt::print(stderr, "{}\n", loaded.text.resolved_yaml);
  if (line.dry_run && log::is_root()) log::info("the configuration is valid (dry run: nothing was done)");
  return line.dry_run;
}

void refuse(const std::vector<std::string>& found) { throw_if_any(found); }

std::vector<RewardSection> trained_rewards(const Settings& settings) {
  std::vector<RewardSection> found;
  const auto add = [&](const std::string& name, const RewardConfig& config) {
    if (!config.train.labels.empty()) found.push_back({name, config});
  };
  add("reward", settings.reward);
  add("evaluator", settings.evaluator);
  for (const auto& [name, more] : settings.rewards) add("rewards." + name, more.reward);
  return found;
}

void flush_output() {
  errno = 0;
  const bool flushed = std::fflush(stdout) == 0;
  if (flushed && std::ferror(stdout) == 0) return;
  // An earlier write failed and took its number with it: asked again, a pipe that nobody reads says so.
  if (flushed && ::write(STDOUT_FILENO, "\n", 1) == 1) errno = EIO;
  if (errno != EPIPE) throw_output_error(errno == 0 ? EIO : errno, "write to", "standard output");
}

std::unique_ptr<Progress> start_progress(const CommandLine& line, const Settings& settings, ProgressOptions options) {
  options.line_every_s = settings.log.every_s;
  return std::make_unique<Progress>(
      std::move(options),
      ProgressOutput{.form = line.quiet ? ProgressOutput::Form::silent : ProgressOutput::Form::automatic});
}

std::vector<NamedEvaluation> evaluations_of(const CommandLine& line, const Loaded& loaded) {
  const Settings& settings = loaded.settings();
  const auto wanted = [&](const std::string& name) {
    return line.evaluations.empty() ||
           std::find(line.evaluations.begin(), line.evaluations.end(), name) != line.evaluations.end();
  };
  const std::string main(kMainEvaluation);
  for (const std::string& name : line.evaluations) {
    std::vector<std::string> names = {main};
    for (const auto& [known, section] : settings.evaluations) names.push_back(known);
    require(std::find(names.begin(), names.end(), name) != names.end(),
            "--evaluation {}: the configuration has no such one; it has {}", name, joined(names));
  }
  std::vector<NamedEvaluation> found;
  if (wanted(main) && !settings.prompts.eval.empty() && !settings.pool.eval_path.empty())
    found.push_back({.name = main, .settings = settings, .text = loaded.text});
  for (const auto& [name, section] : settings.evaluations) {
    if (!wanted(name)) continue;
    NamedEvaluation one{.name = name, .settings = for_evaluation(settings, name), .text = loaded.text};
    one.text.resolved_yaml = resolve_config(one.settings).yaml();
    found.push_back(std::move(one));
  }
  return found;
}

std::string evaluation_text(const Evaluation& evaluation) {
  Table table(table_header(evaluation));
  for (const auto& row : table_rows(evaluation)) table.add_row(row);
  std::string text = table.text();
  if (std::isfinite(evaluation.efficiency))
    text += fmt::format("efficiency {:.2f}: (win - 1/2) of the policy over that of BoN at the same KL\n",
                        evaluation.efficiency);
  if (!evaluation.exact.empty()) {
    text += "exact, by every response:";
    for (const auto& [name, value] : evaluation.exact)
      if (!name.starts_with("bon_")) text += fmt::format("  {} {:.4f}", name, value);
    text += "\n";
  }
  return text;
}

std::string figures_text(const Metrics& metrics) {
  struct Shown {
    const char* key;
    const char* label;
    int digits;
  };
  static constexpr Shown kShown[] = {
      {"loss", "loss", 3},           {"residual", "residual", 3}, {"reward", "reward", 3},
      {"log_f", "log F", 3},         {"win", "win", 3},           {"kl", "KL", 3},
      {"kl_to_bon", "KL to BoN", 3}, {"length", "length", 1}};
  std::string text;
  for (const Shown& s : kShown)
    if (const auto it = metrics.find(s.key); it != metrics.end() && std::isfinite(it->second))
      text += fmt::format("{}{} {:.{}f}", text.empty() ? "" : "  ", s.label, it->second, s.digits);
  return text;
}

}  // namespace vbon::cli
