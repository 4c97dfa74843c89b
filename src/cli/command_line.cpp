#include "vbon/cli/command_line.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <initializer_list>
#include <string_view>

#include "vbon/base/error.hpp"
#include "vbon/base/words.hpp"
#include "vbon/cli/commands.hpp"

namespace vbon::cli {
namespace {

void parse_shard(const std::string& text, CommandLine& line) {
  const std::vector<std::string> parts = split(text, '/');
  try {
    if (parts.size() != 2) throw std::invalid_argument(text);
    line.shard = std::stoll(parts[0]);
    line.num_shards = std::stoll(parts[1]);
  } catch (const std::exception&) {
    throw UserError("--shard {} cannot be read; write i/n, e.g. 0/8", text);
  }
  require(line.num_shards >= 1 && line.shard >= 0 && line.shard < line.num_shards,
          "--shard {}: i must lie between 0 and n - 1", text);
}

void add_config(CLI::App& app, CommandLine& line, std::string_view command) {
  const auto is_one_of = [&](std::initializer_list<std::string_view> names) {
    return std::find(names.begin(), names.end(), command) != names.end();
  };
  app.add_option("-c,--config", line.config, "configuration (YAML)");
  app.add_option("-s,--set", line.overrides, "section.key=value, over the configuration")->allow_extra_args(false);
  if (!is_one_of({"sample", "plan", "doctor"}))
    app.add_flag("--dry-run", line.dry_run, "validate, print the resolved configuration, do nothing");
  app.add_flag("--quiet", line.quiet, "no progress, no notes");
  if (is_one_of({"run", "eval", "sample", "plan", "doctor"}))
    app.add_flag("--json", line.json, "results as JSON on standard output");
  if (is_one_of({"run", "pool", "amortise", "train", "eval"}))
    app.add_flag("--force", line.force, "use a pool that was made with something else (recorded as `forced`)");
}

// For plans of a machine that is not this one.
void add_rates(CLI::App& app, CommandLine& line) {
  app.add_option("--tflops", line.tflops,
                 "products that a rank sustains, for estimates of time; default: measured here, on CPUs");
  app.add_option("--gbps", line.gbps, "memory that a rank reads, GB/s, beside --tflops");
}

}  // namespace

CommandLine parse_command_line(int argc, char** argv) {
  CommandLine line;
  CLI::App app("vbon: variational Best-of-N alignment of language models", "vbon");
  app.require_subcommand(1);
  app.footer(
      "vbon help config [SECTION]  every key of the configuration\nvbon COMMAND --help         flags of a command");
  std::string shard;
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    names.emplace_back(command.name);
    CLI::App& sub = *app.add_subcommand(command.name, command.help);
    sub.callback([&line, name = std::string(command.name)] { line.command = name; });
    const std::string name = command.name;
    if (name == "help") {
      sub.add_option("topic", line.topics, "config [SECTION | section.key], or a command");
      continue;
    }
    if (name == "version") {
      sub.add_flag("--json", line.json, "as JSON");
      continue;
    }
    if (name == "sweep") {
      sub.add_option("grid", line.grid, "grid file (YAML): which runs");
      sub.add_option("-s,--set", line.overrides, "section.key=value, over every run's configuration")
          ->allow_extra_args(false);
      sub.add_flag("--dry-run", line.dry_run, "list runs, stages and what is done; do nothing");
      sub.add_flag("--quiet", line.quiet, "no progress");
      add_rates(sub, line);
      sub.add_option("--slurm", line.slurm, "write a script that submits the sweep to Slurm, and run nothing");
      sub.add_option("--only", line.only, "this run alone, by its number in --dry-run, with the stages it needs");
      CLI::Option* stage = sub.add_option("--stage", line.stage, "these shared stages alone, by their number");
      sub.add_option("--until", line.until, "with --stage: stop after this one of them")
          ->check(CLI::IsMember({"reward", "sft", "pool"}))
          ->needs(stage);
      sub.add_option("--shard", shard, "with --stage: i/n, of its pools this job's part of the chunks")->needs(stage);
      continue;
    }
    add_config(sub, line, name);
    if (name == "run") {
      const CLI::IsMember stage({"reward", "sft", "pool", "amortise", "train", "eval"});
      sub.add_option("--from", line.from, "begin with this stage: what the ones before make is there")->check(stage);
      sub.add_option("--until", line.until, "stop after this stage")->check(stage);
    }
    if (name == "pool" || name == "eval")
      sub.add_option("--evaluation", line.evaluations,
                     "these alone of `evaluations` (final: that of prompts.eval); may be given several times")
          ->allow_extra_args(false);
    if (name == "pool") {
      sub.add_option("--shard", shard, "i/n: draw only this job's part of the chunks");
      sub.add_flag("--merge", line.merge, "make the pool from the parts of all jobs");
      sub.add_option("--split", line.split, "which prompts: train, eval or both")
          ->check(CLI::IsMember({"train", "eval", "both"}));
    }
    if (name == "reward")
      sub.add_option("--section", line.section, "which model to make: reward, evaluator or both")
          ->check(CLI::IsMember({"reward", "evaluator", "both"}));
    if (name == "sample") {
      sub.add_option("-m,--model", line.model, "model folder");
      sub.add_option("--prompt", line.prompts, "prompt; may be given several times");
      sub.add_option("--prompts", line.prompt_file, "file of prompts: JSON Lines {prompt, id?} or plain lines");
      sub.add_option("--pool", line.pool, "take the samples from this pool.h5 instead of drawing: no model is needed");
      sub.add_option("--best-of", line.best_of,
                     "of so many samples print the best: by the configured reward, or the pool's");
      sub.add_option("-n,--samples", line.samples, "samples a prompt");
      sub.add_option("--max-new-tokens", line.max_new_tokens, "cut after this many tokens");
      sub.add_option("--temperature", line.temperature, "of the softmax");
      sub.add_option("--seed", line.seed, "of the draws");
    }
    if (name == "score") {
      sub.add_option("--texts", line.texts, "JSON Lines: {text} or {prompt, response}");
      sub.add_option("-o,--output", line.output, "file to write; default: standard output");
    }
    if (name == "plan") {
      add_rates(sub, line);
      sub.add_option("--ranks", line.ranks, "ranks to plan for; default: those that cluster.roles counts, or 1");
      sub.add_option("--model", line.step_model,
                     "scaling.json of `python -m analysis scaling`: the time of a step by what was measured");
    }
  }
  if (argc >= 2 && argv[1][0] != '-' && std::find(names.begin(), names.end(), argv[1]) == names.end()) {
    const std::string nearest = nearest_name(argv[1], names);
    throw UserError("unknown command '{}'{}; commands: {}", argv[1],
                    nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest), joined(names));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    std::exit(app.exit(e));
  } catch (const CLI::ParseError& e) {
    throw UserError("{} (vbon --help)", e.what());
  }
  if (!shard.empty()) parse_shard(shard, line);
  return line;
}

}  // namespace vbon::cli
