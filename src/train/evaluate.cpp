#include "vbon/train/evaluate.hpp"

#include <ATen/TensorOperators.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "train/evaluation_table.hpp"
#include "vbon/base/error.hpp"
#include "vbon/objective/bon.hpp"
#include "vbon/train/carried_trunk.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

RolloutBatch draw(RankContext& context, const Settings& settings, const EvaluationTools& tools) {
  Collection what;
  what.prompts = &tools.prompts.rows;
  what.rows.resize(idx(tools.prompts.rows.num_prompts()));
  std::iota(what.rows.begin(), what.rows.end(), 0);
  what.samples_per_prompt = static_cast<std::int32_t>(settings.eval.samples);
  what.prompts_per_chunk = std::max<std::int64_t>(1, 2 * settings.sampling.slots / settings.eval.samples);
  what.sampling = settings.sampling;
  for (const std::int64_t id : tools.header.eos_ids) what.eos_ids.push_back(static_cast<std::int32_t>(id));
  what.stream =
      RandomStream(static_cast<std::uint64_t>(evaluation_seed(settings)), Purpose::evaluation, tools.prompts.key);
  what.step = tools.header.checkpoint_step;
  what.weights_version = tools.header.checkpoint_step;
  what.files = tools.chunks;
  what.trunk_block = tools.trunk_block;
  what.header.provenance = tools.header.provenance;
  return collect(context, what, tools.collection);
}

// Of every response, [P K]: exact KL and the reference's log-probability; each learner measures its share.
struct ResponseSums {
  std::vector<float> kl, logp_reference;
};

ResponseSums response_sums(RankContext& context, const Settings& settings, const EvaluationTools& tools,
                           const RolloutBatch& batch) {
  const Phases::Scope scope(context.phases, Phase::evaluate, context.world.waiter());
  const bool is_fixed = settings.run.reduce == Reduce::fixed;
  std::vector<Sequence> sequences;
  for (std::int64_t i = 0; i < batch.num_sequences(); ++i)
    sequences.push_back({tools.prompts.rows.tokens_of(i / settings.eval.samples),
                         std::span(batch.tokens).subspan(idx(i * batch.max_new_tokens), idx(batch.length[idx(i)]))});
  BatchPass pass(*tools.reference, *tools.policy, sequences,
                 {settings.sampling.temperature, settings.train.micro_batch, 0, /*keep=*/!is_fixed});
  const std::vector<Share> mine = shares_of(pass.size(), context.learners->rank(), context.learners->size(), is_fixed);
  give_carried_trunk(pass, batch, mine, *tools.policy);
  const Measured measured = measure(pass, *tools.policy, Critic{.kind = Baseline::none}, mine, batch.max_new_tokens);
  const auto gathered = [&](const at::Tensor& per_token) {
    const at::Tensor sums = per_token.sum(-1).contiguous();
    const float* data = sums.const_data_ptr<float>();
    const std::int64_t begin = mine.front().begin, end = mine.back().end;
    return context.learners->all_gather_v(std::span(data + begin, idx(end - begin)), "evaluation").values;
  };
  return {gathered(measured.kl), gathered(measured.logp_reference)};
}

std::string row_key(const EvalRow& row) { return row.n > 0 ? fmt::format("{}_{:g}", row.name, row.n) : row.name; }

void fill_summary(Evaluation& evaluation) {
  auto& out = evaluation.file.summary;
  for (const EvalRow& row : evaluation.rows) {
    const std::string key = row_key(row) + ".";
    for (const auto& [name, figure] : figures_of(row)) {
      out[key + name] = figure.mean;
      out[key + name + "_se"] = figure.se;
    }
  }
  out["efficiency"] = evaluation.efficiency;
}

}  // namespace

EvalHeader eval_header(const Settings& settings, Provenance provenance, const Prompts& prompts, const UsedPool& pool,
                       const LmSpec& spec, const std::string& method, std::int64_t step) {
  EvalHeader header{.provenance = std::move(provenance), .method = method};
  header.provenance.prompts_sha256 = prompts.sha256;
  header.provenance.pool_sha256 = pool.pool.content_sha256;
  if (method == enum_name(settings.train.method) && problems(settings).empty()) {
    header.n = strength_of(settings).n;
    header.beta = strength_of(settings).beta;
  }
  header.training_seed = *settings.run.seed;
  header.temperature = settings.sampling.temperature;
  header.checkpoint_step = step;
  header.eos_ids.assign(spec.eos_ids.begin(), spec.eos_ids.end());
  return header;
}

Evaluation evaluate(RankContext& context, const Settings& settings, const EvaluationTools& tools) {
  const RolloutBatch batch = draw(context, settings, tools);
  Evaluation result;
  if (!context.is(comm::Role::learner)) return result;
  EvalFile& file = result.file;
  file.header = tools.header;
  file.header.evaluation_seed = file.header.bootstrap_seed = evaluation_seed(settings);
  file.block.prompts = tools.prompts.rows;
  SampleRows& samples = file.block.samples;
  samples.num_samples = settings.eval.samples;
  samples.max_new_tokens = batch.max_new_tokens;
  samples.tokens = batch.tokens;
  samples.length = batch.length;
  samples.finished = batch.finished;
  ResponseSums sums = response_sums(context, settings, tools, batch);
  file.kl = std::move(sums.kl);
  samples.logp_reference = std::move(sums.logp_reference);
  file.block.rewards["main"] = batch.reward;
  if (!batch.evaluator.empty()) file.block.rewards["evaluator"] = batch.evaluator;
  std::size_t column = 0;
  for (const auto& [name, more] : settings.rewards) {
    std::vector<float>& values = file.block.rewards[name];
    for (std::size_t i = 0; i < batch.reward.size(); ++i)
      values.push_back(batch.more_reward[i * settings.rewards.size() + column]);
    ++column;
  }
  file.win =
      win_by_prompt(tools.pool, tools.pool.pool.sorted_rewards.at("main"), batch.reward, file.block.num_prompts());
  result.rows = evaluation_rows(settings, tools.pool, file);
  const EvalRow& policy = result.rows[1];
  const double bon_gain = bon_win_at_kl(policy.kl.mean) - 0.5;
  result.efficiency =
      policy.kl.mean > 1e-3 ? (policy.win.mean - 0.5) / bon_gain : std::numeric_limits<double>::quiet_NaN();
  for (const EvalRow& row : result.rows)
    if (row.name == "bon") {
      file.bon.n.push_back(row.n);
      file.bon.kl.push_back(row.kl.mean);
      file.bon.win.push_back(row.win.mean);
      file.bon.reward.push_back(row.reward.mean);
      file.bon.se.push_back(row.win.se);
    }
  fill_summary(result);
  return result;
}

}  // namespace vbon
