#include "vbon/cli/commands.hpp"

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <system_error>
#include <thread>

#include "cli/allocation.hpp"
#include "cli/stage.hpp"
#include "vbon/base/host.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/stop.hpp"
#include "vbon/base/words.hpp"
#include "vbon/model/cuda_library.hpp"
#include "vbon/store/lock.hpp"

namespace vbon::cli {
namespace {

// Keys that may change when a run is resumed: its folder may have been moved.
const std::vector<std::string> kMayChange = {"run.dir", "log", "cluster", "!cluster.lag", "checkpoint", "evaluations"};

// The rank that the launcher says this process has, before MPI itself can be asked.
int launched_rank() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"})
    if (const char* value = std::getenv(name)) return std::atoi(value);
  return 0;
}

std::string job_id() {
  for (const char* name : {"SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID"})
    if (const char* value = std::getenv(name)) return value;
  return "";
}

std::shared_ptr<ExecProgram> start_program(const RewardConfig& config) {
  if (config.kind != RewardKind::exec || config.command.empty()) return nullptr;
  return std::make_shared<ExecProgram>(exec_options(config));
}

const Command& find_command(const std::string& name) {
  for (const Command& command : commands())
    if (name == command.name) return command;
  throw InternalError("no command " + name);
}

[[noreturn]] void end_all_ranks(comm::MpiRuntime& mpi, ExitCode code, const std::exception& error) {
  if (!is_told_elsewhere(error)) mpi.abort(static_cast<int>(code), error.what());
  log::write_own(log::Level::error, error.what());
  mpi.abort_behind(static_cast<int>(code));
}

ExitCode run_with_ranks(int argc, char** argv, const Command& command, const CommandLine& line) {
  Prepared prepared{.loaded = load_settings(line, command.needed)};
  const Settings& settings = prepared.loaded.settings();
  if (settings.checkpoint.before_end_s > 0) prepared.loaded.text.end_s = allocation_end(launched_rank() == 0);
  prepared.programs = {start_program(settings.reward), start_program(settings.evaluator), {}};
  for (const auto& [name, more] : settings.rewards) prepared.programs.more[name] = start_program(more.reward);
  comm::MpiRuntime mpi(argc, argv, {.timeout_s = settings.cluster.init_timeout_s});
  log::init(mpi.world().rank(), mpi.world().size(), line.quiet ? log::Level::warn : log::Level::info);
  log::set_all_ranks(settings.log.all_ranks);
  try {
    return command.with_ranks(mpi.world(), line, prepared);
  } catch (const UserError& e) {
    if (mpi.world().size() == 1) throw;
    end_all_ranks(mpi, ExitCode::user, e);
  } catch (const EnvironmentError& e) {
    if (mpi.world().size() == 1) throw;
    end_all_ranks(mpi, ExitCode::environment, e);
  } catch (const std::exception& e) {
    if (mpi.world().size() == 1) throw;
    end_all_ranks(mpi, ExitCode::internal, e);
  }
}

// An error that all ranks have (a wrong configuration) is told by rank 0; its launcher then stops the others. A rank
// that is not stopped has an error of its own, say a program that its machine lacks.
bool is_stopped_within(double seconds) {
  using Clock = std::chrono::steady_clock;
  for (const auto start = Clock::now(); Clock::now() - start < std::chrono::duration<double>(seconds);) {
    if (stop::requested()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

ExitCode fail(const std::exception& e, ExitCode code) {
  constexpr double kPatience_s = 1.5;
  if (launched_rank() == 0) log::error("{}", e.what());
  else if (!is_stopped_within(kPatience_s)) log::error("rank {} on {}: {}", launched_rank(), host_name(), e.what());
  log::flush();
  return code;
}

}  // namespace

const std::vector<Command>& commands() {
  static const std::vector<Command> kCommands = {
      {"sft",
       "supervised fine-tuning: model.base + text -> model.reference",
       run_sft_command,
       nullptr,
       {"run.seed", "model.base", "model.reference", "sft.text"}},
      {"reward",
       "train the reward model and the evaluator on labelled text",
       run_reward_command,
       nullptr,
       {"run.seed"}},
      {"pool",
       "scored reference samples: the log F tables",
       run_pool_command,
       nullptr,
       {"run.seed", "model.reference"}},
      {"amortise",
       "F of a prompt's rewards from its embedding: for prompts without a pool, or beside few samples",
       run_amortise_command,
       nullptr,
       {"run.seed", "model.reference", "prompts.train", "pool.path", "amortised.path"}},
      {"train",
       "train a policy, by any of the methods (train.method)",
       run_train_command,
       nullptr,
       {"run.seed", "run.dir", "model.reference", "prompts.train"}},
      {"eval",
       "evaluate a checkpoint on held-out prompts, BoN beside it",
       run_eval_command,
       nullptr,
       {"run.seed", "run.dir", "model.reference", "prompts.eval", "pool.eval_path"}},
      {"sample", "draw responses from a model folder, or the best of N", nullptr, run_sample_command, {}},
      {"score", "score texts with the configured reward", run_score_command, nullptr, {}},
      {"run",
       "all stages of a recipe, skipping what is done",
       run_recipe_command,
       nullptr,
       {"run.seed", "run.dir", "model.reference", "prompts.train"}},
      {"sweep", "the runs of a grid, here or by Slurm, skipping what is done", nullptr, run_sweep_command, {}},
      {"plan", "placement, batch algebra, memory, files and time of a configuration", nullptr, run_plan_command, {}},
      {"doctor",
       "what this machine and a configuration's files offer, and what to mend",
       nullptr,
       run_doctor_command,
       {}},
      {"help", "help config [SECTION]: every key; help COMMAND", nullptr, run_help_command, {}},
      {"version", "versions of this program and its libraries", nullptr, run_version_command, {}},
  };
  return kCommands;
}

Loaded load_settings(const CommandLine& line, const std::vector<std::string>& needed) {
  require(!line.config.empty() || !line.overrides.empty(),
          "no configuration: give one with -c config.yaml (`vbon help config` lists its keys)");
  Loaded loaded{.config = load_config<Settings>({.file = line.config, .overrides = line.overrides})};
  throw_if_any(missing_required(loaded.config.value, needed));
  loaded.text = {.resolved_yaml = loaded.config.resolved_yaml,
                 .hash = loaded.config.hash(kMayChange),
                 .changed_keys =
                     [resolved = loaded.config.resolved](const std::string& saved) {
                       const auto before = load_config_text<Settings>(saved, "config.yaml of the run folder");
                       return config_differences(before.resolved, resolved, kMayChange);
                     },
                 .job = job_id(),
                 .force = line.force};
  return loaded;
}

ExitCode run(int argc, char** argv) {
  log::init(launched_rank(), 1);
  try {
    const CommandLine line = parse_command_line(argc, argv);
    if (line.quiet) log::init(launched_rank(), 1, log::Level::warn);
    stop::install();
    if (const std::string why = load_cuda_library(); !why.empty()) log::warn("CUDA devices cannot be used: {}", why);
    const Command& command = find_command(line.command);
    const ExitCode code = command.alone != nullptr ? command.alone(line) : run_with_ranks(argc, argv, command, line);
    flush_output();
    return code;
  } catch (const UserError& e) {
    return fail(e, ExitCode::user);
  } catch (const EnvironmentError& e) {
    return fail(e, ExitCode::environment);
  } catch (const std::system_error& e) {
    if (std::ferror(stdout) == 0) return fail(e, ExitCode::internal);
    if (e.code().value() == EPIPE) return ExitCode::ok;  // of a print: the reader has seen enough
    return fail(EnvironmentError("cannot write to standard output: {}", e.what()), ExitCode::environment);
  } catch (const std::exception& e) {
    return fail(e, ExitCode::internal);
  }
}

}  // namespace vbon::cli
