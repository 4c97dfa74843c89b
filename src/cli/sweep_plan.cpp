#include "cli/sweep_plan.hpp"

#include <algorithm>
#include <array>
#include <map>

#include "vbon/base/error.hpp"
#include "vbon/base/sha256.hpp"
#include "vbon/base/words.hpp"

namespace vbon::cli {
namespace {

// Keys that say where or how fast, not what.
const std::vector<std::string> kNotContent = {"run.dir", "log", "cluster", "checkpoint"};

// What a stage's output is made from: keys and sections. Its own path is none of it.
struct StageInputs {
  const char* path;
  std::vector<std::string> made_from;
};
const std::array<StageInputs, 5>& stage_inputs() {
  static const std::array<StageInputs, 5> kStages = {{
      {"model.reference", {"model.base", "model.start_token", "sft"}},
      {"reward.path", {"reward"}},
      {"evaluator.path", {"evaluator"}},
      {"pool.path",
       {"model", "sft", "reward", "evaluator", "sampling", "prompts.train", "pool.samples", "pool.prefix_every",
        "pool.keep_trunk"}},
      {"pool.eval_path", {"model", "sft", "reward", "evaluator", "sampling", "prompts.eval", "pool.samples"}},
  }};
  return kStages;
}

namespace fs = std::filesystem;
using Values = std::map<std::string, std::string>;

Values values_of(const ResolvedConfig& config) {
  Values values;
  for (const ResolvedConfig::Entry& entry : config.entries()) values[entry.path] = entry.text;
  return values;
}

// Everything that a stage's output is made from, as text.
std::string content(const Values& values, const StageInputs& stage) {
  std::string text;
  for (const auto& [path, value] : values) {
    const bool is_input = std::any_of(stage.made_from.begin(), stage.made_from.end(),
                                      [&](const std::string& from) { return lies_in(path, from); });
    if (!is_input || path == "model.reference" || path == "reward.path" || path == "evaluator.path") continue;
    text += path + ": " + value + "\n";
  }
  // Kept trunk rows are of the blocks below the trained ones.
  if (std::string(stage.path) == "pool.path" && values.at("pool.keep_trunk") == "true")
    text += values.at("train.layers");
  return text;
}

std::string with_hash(const std::string& path, const std::string& hash) {
  const fs::path whole(path);
  return (whole.parent_path() /
          fmt::format("{}-{}{}", whole.stem().string(), hash.substr(0, 8), whole.extension().string()))
      .string();
}

Loaded load(const Grid& grid, const std::vector<std::string>& overrides) {
  return load_settings({.config = grid.config, .overrides = overrides},
                       {"run.seed", "run.dir", "model.reference", "prompts.train"});
}

}  // namespace

SweepPlan plan_sweep(const Grid& grid, const std::vector<std::string>& given) {
  const auto with = [&given](std::vector<std::string> more) {
    std::vector<std::string> all = given;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const std::string here = (grid.dir / "runs").string();
  std::vector<std::string> common = with({"run.dir=" + here});
  for (const auto& [key, value] : grid.common) common.push_back(key + "=" + value);
  const Loaded base = load(grid, common);
  const Values of_base = values_of(base.config.resolved);
  SweepPlan plan{.grid = grid};
  std::vector<std::string> errors;
  for (const GridRun& run : grid.runs) {
    std::vector<std::string> own;
    for (const auto& [key, value] : run.overrides) own.push_back(key + "=" + value);
    try {
      std::vector<std::string> overrides = with(own);
      overrides.push_back("run.dir=" + here);
      const Values values = values_of(load(grid, overrides).config.resolved);
      SharedStages stages{.overrides = with({})};
      for (const auto& [key, value] : run.overrides)
        if (key != "run.seed") stages.overrides.push_back(key + "=" + value);
      for (const StageInputs& stage : stage_inputs()) {
        std::string path = values.at(stage.path);
        const bool is_named = path != "\"\"" && !path.empty();
        if (is_named && path == of_base.at(stage.path) && content(values, stage) != content(of_base, stage)) {
          path = with_hash(path, sha256_hex(content(values, stage)));
          overrides.push_back(fmt::format("{}={}", stage.path, path));
          stages.overrides.push_back(overrides.back());
        }
        stages.paths.push_back(path);
      }
      const std::string hash = load(grid, overrides).config.hash(kNotContent);
      const std::string name = fmt::format("{}-{}", run.label, hash.substr(0, 8));
      const fs::path dir = grid.dir / "runs" / name;
      std::replace(overrides.begin(), overrides.end(), "run.dir=" + here, "run.dir=" + dir.string());
      stages.overrides.push_back("run.dir=" + (grid.dir / "stages").string());
      PlannedRun planned{
          .name = name, .dir = dir, .overrides = overrides, .hash = hash, .loaded = load(grid, overrides)};
      for (const std::string& problem : problems(planned.loaded.settings()))
        errors.push_back(fmt::format("{}: {}", run.label, problem));
      for (const PlannedRun& other : plan.runs)
        if (other.hash == planned.hash)
          errors.push_back(fmt::format("{} and {} are the same run: the grid names it twice", other.name, run.label));
      const auto same = std::find_if(plan.stages.begin(), plan.stages.end(),
                                     [&](const SharedStages& s) { return s.paths == stages.paths; });
      planned.stages = static_cast<std::size_t>(same - plan.stages.begin());
      if (same == plan.stages.end()) plan.stages.push_back(std::move(stages));
      plan.runs.push_back(std::move(planned));
    } catch (const UserError& e) {
      errors.push_back(fmt::format("{}: {}", run.label, e.what()));
    }
  }
  throw_if_any(errors);
  return plan;
}

}  // namespace vbon::cli
