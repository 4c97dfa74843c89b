// `vbon sweep`: the runs of a grid, here one after the other, or as a script for Slurm. Each is a process of its own
// (`vbon run`), so one that fails leaves the others alone; what is done is skipped, so a killed sweep goes on.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/plan_rates.hpp"
#include "cli/stage.hpp"
#include "cli/sweep_cost.hpp"
#include "cli/sweep_plan.hpp"
#include "cli/sweep_process.hpp"
#include "cli/sweep_slurm.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/stop.hpp"
#include "vbon/base/words.hpp"
#include "vbon/cli/table.hpp"

namespace vbon::cli {
namespace {

namespace fs = std::filesystem;

std::string sweep_json(const SweepPlan& plan) {
  nlohmann::json runs = nlohmann::json::array();
  for (std::size_t i = 0; i < plan.runs.size(); ++i) {
    nlohmann::json overrides = nlohmann::json::object();
    for (const auto& [key, value] : plan.grid.runs[i].overrides)
      overrides[key] = nlohmann::json::accept(value) ? nlohmann::json::parse(value) : nlohmann::json(value);
    runs.push_back({{"name", plan.runs[i].name},
                    {"dir", plan.runs[i].dir.lexically_relative(plan.grid.dir).string()},
                    {"seed", *plan.runs[i].loaded.settings().run.seed},
                    {"overrides", overrides}});
    if (plan.runs[i].ranks > 0) runs.back()["ranks"] = plan.runs[i].ranks;
  }
  return nlohmann::json({{"format", "vbon.sweep"}, {"schema_version", 1}, {"name", plan.grid.name}, {"runs", runs}})
             .dump(1) +
         "\n";
}

class Sweep {
 public:
  Sweep(SweepPlan plan, bool quiet) : plan_(std::move(plan)), quiet_(quiet) {
    make_folders(plan_.grid.dir / "logs");
    make_folders(plan_.grid.dir / "done");
    write_shared_file_atomically(plan_.grid.dir / "sweep.json", sweep_json(plan_));  // by every piece of an array
  }

  // 0, 75 where a signal stopped it, 74 or 1 where pieces failed.
  ExitCode run(const CommandLine& line) {
    if (line.stage) {
      const auto i = static_cast<std::size_t>(*line.stage);
      const SharedStages& stages = plan_.stages[i];
      if (line.num_shards > 1)
        start(fmt::format("stages-{}-shard-{}", i, line.shard), stages.ranks, "pool", stages.overrides,
              {"--shard", fmt::format("{}/{}", line.shard, line.num_shards)});
      else if (!line.until.empty())
        start(fmt::format("stages-{}-{}", i, line.until), stages.ranks, "run", stages.overrides,
              {"--until", line.until});
      else stage(i, stages.ranks);
    } else if (line.only) {
      // Its job may have no more ranks than the run itself.
      const auto i = static_cast<std::size_t>(*line.only);
      one(i, plan_.runs[i].ranks);
    } else {
      for (std::size_t i = 0; i < plan_.runs.size() && !stop::requested(); ++i)
        one(i, plan_.stages[plan_.runs[i].stages].ranks);
    }
    if (stop::requested()) return ExitCode::requeue;
    return worst_;
  }

 private:
  // `stage_ranks`: to make its shared stages with, where they are not there.
  void one(std::size_t i, int stage_ranks) {
    const PlannedRun& run = plan_.runs[i];
    const fs::path marker = plan_.grid.dir / "done" / run.name;
    if (fs::exists(marker)) return say("{}: done", run.name);
    if (!stage(run.stages, stage_ranks)) return;
    // Shared stages have the seed of the configuration, not the run's: it must not ask for them again.
    if (start(run.name, run.ranks, "run", run.overrides, {"--from", "train"}))
      write_file_atomically(marker, run.hash + "\n");
  }

  // True: they are there. A stage that failed is not tried again for each run that needs it.
  bool stage(std::size_t i, int ranks) {
    if (state_.size() < plan_.stages.size()) state_.resize(plan_.stages.size());
    if (state_[i] == State::unknown)
      state_[i] = start(fmt::format("stages-{}", i), ranks, "run", plan_.stages[i].overrides, {"--until", "amortise"})
                      ? State::there
                      : State::failed;
    return state_[i] == State::there;
  }

  bool start(const std::string& name, int ranks, const char* command, const std::vector<std::string>& overrides,
             const std::vector<std::string>& more) {
    if (stop::requested()) return false;
    std::vector<std::string> words = launch_of(ranks);
    words.insert(words.end(), {this_program().string(), command, "-c", plan_.grid.config.string()});
    for (const std::string& override : overrides) words.insert(words.end(), {"-s", override});
    words.insert(words.end(), more.begin(), more.end());
    const fs::path log = plan_.grid.dir / "logs" / (name + ".log");
    const auto begin = std::chrono::steady_clock::now();
    const int code = run_process(words, log);
    const std::string time =
        human_seconds(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    if (code == 0) {
      say("{}: {}", name, time);
      return true;
    }
    // A run that stopped before the end of the allocation: the sweep stops with it, and both go on together.
    if (code == static_cast<int>(ExitCode::requeue)) stop::request(stop::signal_number());
    if (stop::requested()) return false;
    log::error("{} failed after {} (exit {}); see {}", name, time, code, log.string());
    const bool only_environment = worst_ == ExitCode::ok || worst_ == ExitCode::environment;
    worst_ = code == static_cast<int>(ExitCode::environment) && only_environment ? ExitCode::environment
                                                                                 : ExitCode::internal;
    return false;
  }

  std::vector<std::string> launch_of(int ranks) const {
    std::vector<std::string> words = plan_.grid.launch;
    if (ranks == 0) return words;
    if (words.empty()) {
      const fs::path jobs = jobs_folder(this_program());
      require(!jobs.empty(), "the grid's runs have `ranks`: its `launch` has to say what starts them, say [mpirun]");
      words = {(jobs / "launch.sh").string()};
    }
    words.insert(words.end(), {"-n", std::to_string(ranks)});
    return words;
  }

  template <class... Args>
  void say(fmt::format_string<Args...> text, Args&&... args) const {
    if (!quiet_) log::info("{}", fmt::format(text, std::forward<Args>(args)...));
  }

  enum class State { unknown, there, failed };
  SweepPlan plan_;
  bool quiet_;
  std::vector<State> state_;
  ExitCode worst_ = ExitCode::ok;
};

void print(const SweepPlan& plan, const SweepCost& cost) {
  Table table({"", "run", "ranks", "stages", "time", "state"});
  std::size_t done = 0;
  double to_do_s = 0, node_s = 0;
  std::vector<bool> needed(plan.stages.size());
  const auto [fewest, most] = std::minmax_element(cost.ranks.begin(), cost.ranks.end());
  const int nodes = *std::max_element(cost.nodes.begin(), cost.nodes.end());
  for (std::size_t i = 0; i < plan.runs.size(); ++i) {
    const PlannedRun& run = plan.runs[i];
    const bool is_done = fs::exists(plan.grid.dir / "done" / run.name);
    done += is_done ? 1 : 0;
    if (!is_done) {
      to_do_s += cost.run_s[i];
      node_s += cost.run_s[i] * cost.nodes[i];
      needed[run.stages] = true;
    }
    table.add_row({std::to_string(i), run.name, std::to_string(cost.ranks[i]), std::to_string(run.stages),
                   std::isnan(cost.run_s[i]) ? "" : human_seconds(cost.run_s[i]),
                   is_done               ? "done"
                   : fs::exists(run.dir) ? "begun"
                                         : "to do"});
  }
  fmt::print("{}", table.text());
  for (std::size_t i = 0; i < plan.stages.size(); ++i) {
    fmt::print("stages {}: {}\n", i, joined(plan.stages[i].paths));
    if (!needed[i]) continue;
    to_do_s += cost.stages_s[i];
    node_s += cost.stages_s[i] * cost.stage_nodes[i];
  }
  fmt::print("{} in {}, {} done\n", counted(static_cast<std::int64_t>(plan.runs.size()), "run"), plan.grid.dir.string(),
             done);
  if (std::isnan(to_do_s)) fmt::print("time: not known, since {}\n", cost.why_not);
  else
    fmt::print(
        "to do: {} by `vbon plan` if one follows the other, {:.1f} node-hours on {}{} and {} (a pool that is there "
        "counts as to be made)\n",
        human_seconds(to_do_s), node_s / 3600, *fewest == *most ? "" : "at most ", counted(*most, "rank"),
        counted(nodes, "node"));
}

}  // namespace

ExitCode run_sweep_command(const CommandLine& line) {
  require(!line.grid.empty(), "no grid: vbon sweep GRID.yaml");
  SweepPlan plan = plan_sweep(read_grid(line.grid), line.overrides);
  const auto in_range = [](const std::optional<std::int64_t>& i, std::size_t count, const char* flag) {
    require(!i || (*i >= 0 && *i < static_cast<std::int64_t>(count)), "{} {}: there are {} of them, counted from 0",
            flag, i.value_or(0), count);
  };
  in_range(line.only, plan.runs.size(), "--only");
  in_range(line.stage, plan.stages.size(), "--stage");
  if (line.dry_run) {
    print(plan, sweep_cost(plan, rates_of(line)));
    flush_output();
    return ExitCode::ok;
  }
  if (!line.slurm.empty()) {
    write_file_atomically(line.slurm, slurm_script(plan, fs::absolute(line.grid), this_program()));
    log::info("'{}' submits the sweep", line.slurm.string());
    return ExitCode::ok;
  }
  return Sweep(std::move(plan), line.quiet).run(line);
}

}  // namespace vbon::cli
