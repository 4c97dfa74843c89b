// Evaluation of a policy on held-out prompts with a pool of their own: exact KL, win rate against the reference's
// samples (ties half), rewards, beside the reference and Best-of-N from the same pool. Collective over the world, with
// the roles of training.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "vbon/objective/stats.hpp"
#include "vbon/store/eval_file.hpp"
#include "vbon/train/batch_pass.hpp"
#include "vbon/train/collect.hpp"
#include "vbon/train/run_inputs.hpp"

namespace vbon {

// One line of the table. NaN: not measured.
struct EvalRow {
  std::string name;                                        // reference, policy, bon, bon_analytic
  double n = 0;                                            // of bon and bon_analytic; 0 elsewhere
  MeanError kl, win, reward, evaluator, length, finished;  // over prompts
  MeanError evaluator_win;                                 // as `win`, by the evaluator's rewards
  Interval win_interval, kl_interval, reward_interval;
  Interval evaluator_interval = {.low = std::numeric_limits<double>::quiet_NaN(),  // NaN: no evaluator
                                 .high = std::numeric_limits<double>::quiet_NaN()};
  std::map<std::string, MeanError> more_reward, more_win;  // by name, of section rewards
};

struct Evaluation {
  EvalFile file;  // complete but for its provenance's time
  std::vector<EvalRow> rows;
  std::map<std::string, double> exact;  // figures of eval.exact (exact.hpp); empty: not asked for
  double efficiency = 0;  // (win - 1/2) of the policy over that of BoN at the policy's KL; NaN at KL <= 1e-3
};

// Of a policy of `method`, with the target's strength where that is the configuration's; `provenance` gets the hashes
// of prompts and pool.
EvalHeader eval_header(const Settings& settings, Provenance provenance, const Prompts& prompts, const UsedPool& pool,
                       const LmSpec& spec, const std::string& method, std::int64_t step);

struct EvaluationTools {
  const Prompts& prompts;               // of prompts.eval
  const UsedPool& pool;                 // of those prompts
  CollectionTools collection;           // policy on rollout ranks; rewards on scorer ranks
  const CausalLm* reference = nullptr;  // learner ranks
  const Policy* policy = nullptr;       // learner ranks
  EvalHeader header;
  const RolloutFiles* chunks = nullptr;
  std::int64_t trunk_block = 0;  // of the policy: its samples carry the rows that enter it; 0: they do not
};

// Complete on learner ranks; empty rows elsewhere.
Evaluation evaluate(RankContext& context, const Settings& settings, const EvaluationTools& tools);

// The table as people read it, one row a line: name, KL, win, reward, evaluator, length, finished; then, of
// every reward of section rewards, its mean and its win rate.
std::vector<std::vector<std::string>> table_rows(const Evaluation& evaluation);
std::vector<std::string> table_header(const Evaluation& evaluation);
std::string summary_json(const Evaluation& evaluation);

}  // namespace vbon
