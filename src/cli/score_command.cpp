#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/stage.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/log.hpp"
#include "vbon/text/records.hpp"
#include "vbon/train/run_inputs.hpp"

namespace vbon::cli {

ExitCode run_score_command(comm::Communicator& world, const CommandLine& line, Prepared& prepared) {
  const Settings& settings = prepared.loaded.settings();
  require(world.size() == 1, "vbon score works in one process");
  require(!line.texts.empty(), "vbon score needs texts: --texts FILE (JSON Lines {{text}} or {{prompt, response}})");
  refuse(problems(settings.reward, "reward"));
  if (line.dry_run) return announce(line, prepared.loaded), ExitCode::ok;
  const std::vector<TextRecord> records = read_texts(line.texts);
  std::vector<PromptResponse> pairs;
  for (const TextRecord& record : records) pairs.push_back({record.prompt, record.response});
  const auto reward = load_reward(settings.reward, at::kCPU, prepared.programs.reward);
  const std::vector<float> scores = reward->score(pairs);
  std::vector<float> judged;
  if (settings.evaluator.configured())
    judged = load_reward(settings.evaluator, at::kCPU, prepared.programs.evaluator)->score(pairs);
  std::string out;
  for (std::size_t i = 0; i < records.size(); ++i) {
    nlohmann::json record;
    if (!records[i].prompt.empty()) record["prompt"] = records[i].prompt;
    record[records[i].prompt.empty() ? "text" : "response"] = records[i].response;
    record["reward"] = scores[i];
    if (!judged.empty()) record["evaluator"] = judged[i];
    out += record.dump() + "\n";
  }
  if (line.output.empty()) fmt::print("{}", out);
  else write_file_atomically(line.output, out);
  return ExitCode::ok;
}

}  // namespace vbon::cli
