#include "cli/stage.hpp"
#include "vbon/base/log.hpp"
#include "vbon/train/evaluation_run.hpp"

namespace vbon::cli {

ExitCode run_eval_command(comm::Communicator& world, const CommandLine& line, Prepared& prepared) {
  const Settings& settings = prepared.loaded.settings();
  std::vector<std::string> found = problems(settings.sampling, /*allow_truncation=*/false);
  for (std::string& text : problems(settings.reward, "reward")) found.push_back(std::move(text));
  refuse(found);
  if (announce(line, prepared.loaded)) return ExitCode::ok;
  const EvaluationRequest request = evaluation_request(settings);
  const Evaluation result = run_evaluation(world, settings, prepared.loaded.text, prepared.programs, request);
  if (result.rows.empty() || !log::is_root()) return ExitCode::ok;
  if (line.json) fmt::print("{}", summary_json(result));
  else fmt::print("{}", evaluation_text(result));
  flush_output();
  log::info("written: {}", (request.output / "eval.h5").string());
  return ExitCode::ok;
}

}  // namespace vbon::cli
