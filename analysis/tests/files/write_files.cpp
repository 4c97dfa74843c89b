// Writes the files of this folder with vbon's own code: a small pool with ties, an evaluation whose win rates and
// best-of-N curve are computed by src/objective, and a record of metrics. What the Python readers and statistics are
// compared with. From the root of the checkout, after a build in BUILD:
//
//   g++ -std=c++20 -Iinclude -Isrc analysis/tests/files/write_files.cpp \
//       src/objective/{bon,bon_curve,exponential_fit,log_f,stats}.cpp \
//       BUILD/src/store/libvbon_store.a BUILD/src/base/libvbon_base.a -I/usr/include/hdf5/serial \
//       -L/usr/lib/x86_64-linux-gnu/hdf5/serial -lhdf5 -lspdlog -lfmt -lcrypto -o write_files
//   ./write_files analysis/tests/files
#include <cmath>
#include <random>

#include "vbon/objective/bon_curve.hpp"
#include "vbon/store/eval_file.hpp"
#include "vbon/store/metrics.hpp"
#include "vbon/store/pool.hpp"

namespace vbon {
namespace {

constexpr std::int64_t kPrompts = 5, kT = 6;

SampleBlock block(std::int64_t m, unsigned seed, int shift) {
  SampleBlock made;
  made.samples.num_samples = m;
  made.samples.max_new_tokens = kT;
  std::mt19937 random(seed);
  for (std::int64_t p = 0; p < kPrompts; ++p) {
    const std::vector<std::int32_t> prompt(static_cast<std::size_t>(p + 1), 7);
    made.prompts.add(50 + p, "prompt " + std::to_string(p) + " <b>é</b>", prompt);
    for (std::int64_t s = 0; s < m; ++s) {
      const auto drawn = static_cast<std::int64_t>(random() % (kT + 1)) + 1;  // kT + 1: cut
      const std::int64_t length = std::min(drawn, kT);
      for (std::int64_t i = 0; i < kT; ++i) {
        const bool ends = i + 1 == length && drawn <= kT;
        made.samples.tokens.push_back(i >= length ? -1 : ends ? 0 : static_cast<std::int32_t>(random() % 90 + 1));
      }
      made.samples.length.push_back(static_cast<std::int32_t>(length));
      made.samples.finished.push_back(drawn <= kT ? 1 : 0);
      made.samples.logp_reference.push_back(-1.5f * static_cast<float>(length));
      made.rewards["main"].push_back(static_cast<float>(static_cast<int>(random() % 7) + shift) / 4 - 1);  // with ties
      made.rewards["evaluator"].push_back(static_cast<float>(random() % 1000) / 1000);
    }
  }
  return made;
}

Provenance provenance() {
  Provenance made;
  made.created_utc = "2026-01-02T03:04:05Z";
  made.vbon_version = "0.1.0";
  made.config = "run:\n  seed: 3\n";
  made.seed = 3;
  made.run_id = "run";
  made.library_versions = {{"torch", "2.11.0"}};
  made.reference_sha256 = std::string(64, 'a');
  return made;
}

void write_all(const fs::path& folder) {
  PoolHeader header;
  header.provenance = provenance();
  header.temperature = 0.7;
  header.max_new_tokens = kT;
  header.num_samples = 12;
  header.eos_ids = {0};
  header.reward_output = "logit";
  header.seconds = 2.5;
  const SampleBlock pool = block(12, 1, 0);
  const std::string pool_sha256 = write_pool(folder / "pool.h5", header, pool);
  const RewardColumns tables = sorted_rows(pool.rewards, 12);

  EvalFile eval;
  eval.header = {.provenance = provenance(),
                 .method = "vbon",
                 .n = 4,
                 .beta = 1.0 / 3,
                 .training_seed = 3,
                 .evaluation_seed = 4,
                 .bootstrap_seed = 5,
                 .temperature = 0.7,
                 .checkpoint_sha256 = std::string(64, 'f'),
                 .checkpoint_step = 20,
                 .eos_ids = {0}};
  eval.header.provenance.pool_sha256 = pool_sha256;
  eval.block = block(3, 2, 1);
  for (std::size_t i = 0; i < 15; ++i) eval.kl.push_back(0.25f + 0.125f * static_cast<float>(i % 4));
  for (std::size_t p = 0; p < kPrompts; ++p) {
    double win = 0;
    for (std::size_t k = 0; k < 3; ++k)
      win += win_rate(std::span(tables.at("main")).subspan(p * 12, 12), eval.block.rewards.at("main")[p * 3 + k]) / 3;
    eval.win.push_back(win);
  }
  for (const double n : {1.0, 2.0, 3.5, 4.0, 11.0, 20.0}) {
    const BonPoint point = bon_point(pool.rewards.at("main"), kPrompts, n);
    eval.bon.n.push_back(n);
    eval.bon.kl.push_back(point.kl.mean);
    eval.bon.win.push_back(point.win.mean);
    eval.bon.reward.push_back(point.reward.mean);
    eval.bon.se.push_back(point.win.se);
  }
  eval.summary = {{"efficiency", 0.5}, {"evaluator", std::nan("")}};
  write_eval(folder / "eval.h5", eval);

  std::vector<MetricsRow> rows;
  for (std::int64_t step = 1; step <= 3; ++step) {
    MetricsRow row{.step = step, .episodes = 8 * step, .tokens = 40 * step, .values = {}, .time = {}};
    row.values = {{"reward", 0.1 * static_cast<double>(step)}, {"value_loss", std::nan("")}, {"kl", 1.0 / 3}};
    row.time = {{"generate", {1.5, 0}}, {"update", {0, 2.25}}, {"idle", {2.25, 1.5}}};
    if (step == 3) row.time["generate"] = {1, 2, 3};
    rows.push_back(row);
  }
  fs::remove(folder / "metrics.jsonl");
  MetricsLog log(folder / "metrics.jsonl", -1);
  for (const MetricsRow& row : rows) log.append(row);
  write_metrics_h5(folder / "metrics.h5", provenance(), rows);
}

}  // namespace
}  // namespace vbon

int main(int, char** argv) { vbon::write_all(argv[1]); }
