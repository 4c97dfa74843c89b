#include "cli/sweep_plan.hpp"

#include <algorithm>
#include <map>

#include "vbon/base/error.hpp"
#include "vbon/base/sha256.hpp"
#include "vbon/base/words.hpp"

namespace vbon::cli {
namespace {

const std::string kMeasuresAlone = "sft.max_heldout";
// Keys that say where, how fast or how exactly measured, not what; cluster.lag says which policy draws.
const std::vector<std::string> kNotContent = {"run.dir", "log",          "checkpoint",
                                              "cluster", "!cluster.lag", kMeasuresAlone};
const std::vector<std::string> kNotMeasured = {"run.dir", "log", "checkpoint"};

namespace fs = std::filesystem;
using Values = std::map<std::string, std::string>;

// What a stage's output is made from: keys and sections. Its own path is none of it.
struct StageInputs {
  std::string path;
  std::vector<std::string> made_from;
  std::string only_with = {};  // a key: where it is not set, what lies at the path is the user's own
};

std::vector<StageInputs> stage_inputs(const Values& values) {
  const auto and_more = [](std::vector<std::string> more) {
    std::vector<std::string> all = {"model", "sft", "reward", "evaluator", "rewards", "sampling", "pool.samples"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const auto trained = [](const std::string& section) {
    StageInputs stage{section + ".path", {}, section + ".train.labels"};
    for (const char* key : {".train", ".kind", ".max_length", ".append_eos"}) stage.made_from.push_back(section + key);
    return stage;
  };
  std::vector<StageInputs> stages = {
      {"model.reference", {"model.base", "model.start_token", "sft"}, "sft.text"},
      trained("reward"),
      trained("evaluator"),
      {"pool.path", and_more({"prompts.train", "pool.prefix_every", "pool.prefix_samples", "pool.keep_trunk"})},
      {"pool.eval_path", and_more({"prompts.eval"})},
      {"amortised.path", and_more({"prompts", "pool", "amortised.components", "amortised.updates", "amortised.batch",
                                   "amortised.learning_rate", "amortised.weight_decay", "amortised.heldout"})},
  };
  for (const auto& [path, value] : values) {
    const std::vector<std::string> parts = split(path, '.');
    if (parts.size() == 3 && parts[0] == "evaluations" && parts[2] == "pool")
      stages.push_back({path, and_more({"prompts.eval", "evaluations." + parts[1]})});
    if (parts.size() == 3 && parts[0] == "rewards" && parts[2] == "path")
      stages.push_back(trained("rewards." + parts[1]));
  }
  return stages;
}

bool is_set(const Values& values, const std::string& path) {
  const auto found = values.find(path);
  return found != values.end() && !found->second.empty() && found->second != "\"\"" && found->second != "null";
}

Values values_of(const ResolvedConfig& config) {
  Values values;
  for (const ResolvedConfig::Entry& entry : config.entries()) values[entry.path] = entry.text;
  return values;
}

// Everything that a stage's output is made from and that somebody has set, as text.
std::string content(const ResolvedConfig& config, const StageInputs& stage) {
  std::string text, layers;
  bool keeps_trunk = false;
  for (const auto& [path, value, is_default] : config.entries()) {
    if (path == "train.layers") layers = value;
    if (path == "pool.keep_trunk") keeps_trunk = value == "true";
    const bool is_input = std::any_of(stage.made_from.begin(), stage.made_from.end(),
                                      [&](const std::string& from) { return lies_in(path, from); });
    if (!is_input || is_default || path == "model.reference" || path == kMeasuresAlone || path.ends_with(".path") ||
        path.ends_with(".eval_path"))
      continue;
    text += path + ": " + value + "\n";
  }
  // Kept trunk rows are of the blocks below the trained ones.
  if (stage.path == "pool.path" && keeps_trunk) text += layers;
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
  // The command line's keys win over the grid's.
  const auto with = [&given](std::vector<std::string> keys) {
    keys.insert(keys.end(), given.begin(), given.end());
    return keys;
  };
  const std::string here = (grid.dir / "runs").string();
  std::vector<std::string> common;
  for (const auto& [key, value] : grid.common) common.push_back(key + "=" + value);
  common = with(std::move(common));
  common.push_back("run.dir=" + here);
  const Loaded base = load(grid, common);
  const ResolvedConfig& base_config = base.config.resolved;
  const Values of_base = values_of(base_config);
  SweepPlan plan{.grid = grid};
  std::vector<std::string> errors;
  for (const GridRun& run : grid.runs) {
    std::vector<std::string> own;
    for (const auto& [key, value] : run.overrides) own.push_back(key + "=" + value);
    try {
      std::vector<std::string> overrides = with(own);
      overrides.push_back("run.dir=" + here);
      const ResolvedConfig config = load(grid, overrides).config.resolved;
      const Values values = values_of(config);
      SharedStages stages;
      for (const auto& [key, value] : run.overrides)
        if (key != "run.seed") stages.overrides.push_back(key + "=" + value);
      stages.overrides = with(std::move(stages.overrides));
      for (const StageInputs& stage : stage_inputs(values)) {
        std::string path = values.at(stage.path);
        const bool is_made = is_set(values, stage.path) && (stage.only_with.empty() || is_set(values, stage.only_with));
        const auto before = of_base.find(stage.path);
        const bool is_shared = before != of_base.end() && before->second == path;
        if (is_made && is_shared && content(config, stage) != content(base_config, stage)) {
          path = with_hash(path, sha256_hex(content(config, stage)));
          overrides.push_back(fmt::format("{}={}", stage.path, path));
          stages.overrides.push_back(overrides.back());
        }
        if (is_set(values, stage.path)) stages.paths.push_back(path);
      }
      const std::string hash = load(grid, overrides).config.hash(grid.has_ranks() ? kNotMeasured : kNotContent);
      const std::string name = fmt::format("{}-{}", run.label, hash.substr(0, 8));
      const fs::path dir = grid.dir / "runs" / name;
      std::replace(overrides.begin(), overrides.end(), "run.dir=" + here, "run.dir=" + dir.string());
      stages.overrides.push_back("run.dir=" + (grid.dir / "stages").string());
      PlannedRun planned{.name = name,
                         .dir = dir,
                         .overrides = overrides,
                         .hash = hash,
                         .ranks = run.ranks,
                         .loaded = load(grid, overrides)};
      for (const std::string& problem : problems(planned.loaded.settings()))
        errors.push_back(fmt::format("{}: {}", run.label, problem));
      for (const PlannedRun& other : plan.runs)
        if (other.hash == planned.hash && other.ranks == planned.ranks)
          errors.push_back(fmt::format("{} and {} are the same run: the grid names it twice", other.name, run.label));
      const auto same = std::find_if(plan.stages.begin(), plan.stages.end(),
                                     [&](const SharedStages& s) { return s.paths == stages.paths; });
      planned.stages = static_cast<std::size_t>(same - plan.stages.begin());
      if (same == plan.stages.end()) plan.stages.push_back(std::move(stages));
      int& most = plan.stages[planned.stages].ranks;
      most = std::max(most, run.ranks);
      plan.runs.push_back(std::move(planned));
    } catch (const UserError& e) {
      errors.push_back(fmt::format("{}: {}", run.label, e.what()));
    }
  }
  throw_if_any(errors);
  return plan;
}

}  // namespace vbon::cli
