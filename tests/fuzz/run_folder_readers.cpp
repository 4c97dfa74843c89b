#include <cmath>
#include <stdexcept>

#include "fuzz/readers.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/store/checkpoint.hpp"
#include "vbon/store/folder_commit.hpp"
#include "vbon/store/lock.hpp"
#include "vbon/store/metrics.hpp"
#include "vbon/store/run_folder.hpp"
#include "vbon/train/counters.hpp"

namespace vbon::fuzz {
namespace {

Files checkpoint(const fs::path& scratch) {
  const CheckpointFiles files(scratch);
  const std::vector<std::string> parts = {"policy/config.json", "state/counters.json"};
  const fs::path folder = files.begin(10, parts);
  write_file_atomically(folder / parts[0], "{}");
  write_counters(folder / parts[1],
                 {.run = {.step = 10, .episodes = 80, .tokens = 900, .best_step = 5, .best_win = 0.6},
                  .optimizer_steps = 20,
                  .kl_coef = 0.1});
  Manifest manifest;
  manifest.run_id = "run";
  manifest.environment = {{"cpu", "some"}};
  manifest.metrics = {{"win", 0.625}};
  manifest.step = 10;
  files.commit(std::move(manifest));
  return files_in(scratch);
}

void read_checkpoint(const fs::path& folder) {
  const CheckpointFiles files(folder);
  std::vector<std::string> skipped;
  const auto latest = files.latest(skipped);
  files.steps();
  files.is_valid(10);
  if (latest) read_counters(latest->folder / "state/counters.json");
  files.clean();
  if (!latest) throw UserError("nothing is left of it");
}

MetricsRow row(std::int64_t step) {
  return {.step = step,
          .episodes = 8 * step,
          .tokens = 70 * step,
          .values = {{"reward", -0.5}, {"kl", 0.25}, {"win", std::nan("")}},
          .time = {{"sample", {0.5, 0.25}}, {"idle", {0, 1}}}};
}

void read_run(const fs::path& folder) {
  const RunFolder run = RunFolder::open(
      folder,
      {.config = "a: 1\n", .job = "7", .changed_keys = [](const std::string&) { return std::vector<std::string>(); }});
  run.unknown_files();
  MetricsLog log(run.metrics_jsonl(), 3);
  log.append(row(4));
}

}  // namespace

std::vector<Reader> run_folder_readers(const fs::path& scratch) {
  Files metrics;
  for (std::int64_t step = 1; step <= 3; ++step) metrics["metrics.jsonl"] += to_json_line(row(step)) + "\n";
  Files run = metrics;
  run["config.yaml"] = "a: 1\n";
  run["attempts.jsonl"] =
      R"({"run_id": "0123456789abcdef", "attempt": 1, "host": "h", "pid": 7, "job": "", "started": "2026-01-31T12:00:00Z"})"
      "\n";
  run["lock"] =
      R"({"host": "h", "pid": 7, "job": "", "started": "2026-01-31T12:00:00Z", "boot": "b", "pid_namespace": "n", "start_ticks": 9})"
      "\n";
  const Files counters = {
      {"counters.json",
       R"({"behind": -1, "step": 3, "episodes": 24, "tokens": 500, "optimizer_steps": 6, "kl_coef": 0.1, "best_step": -1, "best_win": 0.5})"}};
  const Files record = {{"made.json", R"({"key": "k", "seconds": 1.5, "more": {"a": [1, 2]}})"}};
  return {{.name = "checkpoints", .seeds = {checkpoint(scratch / "checkpoints")}, .read = read_checkpoint},
          {.name = "metrics.jsonl",
           .seeds = {metrics},
           .read =
               [](const fs::path& f) {
                 for (const MetricsRow& one : read_metrics(f / "metrics.jsonl"))
                   parse_metrics_line(to_json_line(one), "again");
               }},
          {.name = "run folder", .seeds = {run}, .read = read_run},
          {.name = "lock",
           .seeds = {{{"lock", run["lock"]}}},
           .read =
               [](const fs::path& f) {
                 lock_holder(f / "lock");
                 const FileLock lock(f / "lock", {});
                 if (lock_holder(f / "lock") == std::nullopt) throw std::runtime_error("a lock that nobody holds");
               },
           .refuses = false},  // what a dead run left is taken over, whatever it is
          {.name = "counters.json",
           .seeds = {counters},
           .read = [](const fs::path& f) { read_counters(f / "counters.json"); }},
          {.name = "record of a stage", .seeds = {record}, .read = [](const fs::path& f) {
             already_made(f, {.name = "made.json", .command = "vbon sft", .inputs = "x", .path_key = "model.reference"},
                          "k");
           }}};
}

}  // namespace vbon::fuzz
