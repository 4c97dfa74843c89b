#include "cli/stage.hpp"
#include "vbon/base/log.hpp"
#include "vbon/train/evaluation_run.hpp"

namespace vbon::cli {

ExitCode run_eval_command(comm::Communicator& world, const CommandLine& line, Prepared& prepared) {
  const Settings& settings = prepared.loaded.settings();
  std::vector<std::string> found = problems(settings.sampling, /*allow_truncation=*/false);
  for (std::string& text : problems(settings.reward, "reward")) found.push_back(std::move(text));
  for (std::string& text : more_reward_problems(settings)) found.push_back(std::move(text));
  for (std::string& text : evaluation_problems(settings)) found.push_back(std::move(text));
  refuse(found);
  const std::vector<NamedEvaluation> evaluations = evaluations_of(line, prepared.loaded);
  if (announce(line, prepared.loaded)) return ExitCode::ok;
  for (const NamedEvaluation& one : evaluations) {
    const EvaluationRequest request = evaluation_request(one.settings, one.name);
    const Evaluation result = run_evaluation(world, one.settings, one.text, prepared.programs, request);
    if (result.rows.empty() || !log::is_root()) continue;
    if (evaluations.size() > 1 && !line.json) fmt::print("== {}\n", one.name);
    if (line.json) fmt::print("{}", summary_json(result));
    else fmt::print("{}", evaluation_text(result));
    flush_output();
    log::info("written: {}", (request.output / "eval.h5").string());
  }
  return ExitCode::ok;
}

}  // namespace vbon::cli
