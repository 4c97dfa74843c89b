#include "vbon/train/evaluate.hpp"

#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "vbon/base/error.hpp"
#include "vbon/objective/bon.hpp"
#include "vbon/objective/bon_curve.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::int64_t evaluation_seed(const Settings& s) { return s.eval.seed.value_or(s.run.seed.value_or(0)); }

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
  const Measured measured = measure(pass, *tools.policy, Critic{.kind = Baseline::none}, mine, batch.max_new_tokens);
  const auto gathered = [&](const at::Tensor& per_token) {
    const at::Tensor sums = per_token.sum(-1).contiguous();
    const float* data = sums.const_data_ptr<float>();
    const std::int64_t begin = mine.front().begin, end = mine.back().end;
    return context.learners->all_gather_v(std::span(data + begin, idx(end - begin)), "evaluation").values;
  };
  return {gathered(measured.kl), gathered(measured.logp_reference)};
}

// One value a prompt, from [P, K] values.
template <class T>
std::vector<double> per_prompt(const std::vector<T>& values, std::int64_t num_prompts) {
  std::vector<double> means;
  const std::size_t k = values.size() / idx(num_prompts);
  for (std::size_t p = 0; p < idx(num_prompts); ++p)
    means.push_back(std::accumulate(values.begin() + static_cast<std::ptrdiff_t>(p * k),
                                    values.begin() + static_cast<std::ptrdiff_t>((p + 1) * k), 0.0) /
                    static_cast<double>(k));
  return means;
}

MeanError no_figure() { return {kNaN, kNaN, kNaN, 0}; }
MeanError exactly(double value) { return {value, 0, 0, 1}; }

// The share of the pool's samples that a policy's beat, ties half, by prompt. `sorted`: the pool's rewards [P, M].
std::vector<double> win_by_prompt(const UsedPool& pool, const std::vector<float>& sorted,
                                  const std::vector<float>& rewards, std::int64_t num_prompts) {
  const std::int64_t m = pool.pool.header.num_samples, k = std::ssize(rewards) / num_prompts;
  std::vector<double> win;
  for (std::int64_t i = 0; i < std::ssize(rewards); ++i)
    win.push_back(win_rate(std::span(sorted).subspan(idx(pool.row[idx(i / k)] * m), idx(m)), rewards[idx(i)]));
  return per_prompt(win, num_prompts);
}

class Table {
 public:
  Table(const Settings& settings, const EvaluationTools& tools, const EvalFile& file)
      : settings_(settings), pool_(tools.pool), file_(file),
        stream_(static_cast<std::uint64_t>(evaluation_seed(settings)), Purpose::bootstrap) {}

  std::vector<EvalRow> rows() const {
    std::vector<EvalRow> rows = {reference(), policy()};
    for (const double n : settings_.eval.bon_n)
      if (n > 1 && n <= static_cast<double>(pool_.pool.header.num_samples)) rows.push_back(bon(n));
    const double target = file_.header.n;
    if (target > 1) rows.push_back(analytic(target));
    return rows;
  }

 private:
  // The evaluation's prompts in the pool's rows.
  std::span<const float> rewards_of(std::int64_t prompt, const std::string& name) const {
    return pool_.pool.rewards_of(pool_.row[idx(prompt)], name);
  }
  bool has_evaluator() const {
    return pool_.pool.block.rewards.contains("evaluator") && file_.block.rewards.contains("evaluator");
  }
  Interval interval(const std::vector<double>& values) const {
    return bootstrap_mean(values, stream_, 0.95, static_cast<int>(settings_.eval.bootstrap));
  }
  void set(MeanError& mean, Interval& range, const std::vector<double>& values) const {
    mean = mean_error(values);
    range = interval(values);
  }

  EvalRow reference() const {
    EvalRow row{.name = "reference",
                .kl = exactly(0),
                .win = exactly(0.5),
                .evaluator = no_figure(),
                .evaluator_win = has_evaluator() ? exactly(0.5) : no_figure()};
    std::vector<double> reward, evaluator, length, finished;
    const SampleRows& samples = pool_.pool.block.samples;
    const std::int64_t m = pool_.pool.header.num_samples;
    for (std::int64_t p = 0; p < file_.block.num_prompts(); ++p) {
      const auto mean = [&](auto values) {
        return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(m);
      };
      reward.push_back(mean(rewards_of(p, "main")));
      if (has_evaluator()) evaluator.push_back(mean(rewards_of(p, "evaluator")));
      length.push_back(mean(std::span(samples.length).subspan(idx(pool_.row[idx(p)] * m), idx(m))));
      finished.push_back(mean(std::span(samples.finished).subspan(idx(pool_.row[idx(p)] * m), idx(m))));
    }
    row.win_interval = {0.5, 0.5};
    for (const auto& [name, more] : settings_.rewards) {
      std::vector<double> means;
      for (std::int64_t p = 0; p < file_.block.num_prompts(); ++p) {
        const auto values = rewards_of(p, name);
        means.push_back(std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(m));
      }
      row.more_reward[name] = mean_error(means);
      row.more_win[name] = exactly(0.5);
    }
    set(row.reward, row.reward_interval, reward);
    if (has_evaluator()) set(row.evaluator, row.evaluator_interval, evaluator);
    row.length = mean_error(length);
    row.finished = mean_error(finished);
    return row;
  }

  EvalRow policy() const {
    const std::int64_t prompts = file_.block.num_prompts();
    EvalRow row{.name = "policy", .evaluator = no_figure(), .evaluator_win = no_figure()};
    set(row.kl, row.kl_interval, per_prompt(file_.kl, prompts));
    set(row.win, row.win_interval, file_.win);
    set(row.reward, row.reward_interval, per_prompt(file_.block.rewards.at("main"), prompts));
    if (has_evaluator()) {
      const std::vector<float>& judged = file_.block.rewards.at("evaluator");
      set(row.evaluator, row.evaluator_interval, per_prompt(judged, prompts));
      row.evaluator_win = mean_error(win_by_prompt(pool_, pool_.pool.sorted_rewards.at("evaluator"), judged, prompts));
    }
    for (const auto& [name, more] : settings_.rewards) {
      const std::vector<float>& rewards = file_.block.rewards.at(name);
      row.more_reward[name] = mean_error(per_prompt(rewards, prompts));
      row.more_win[name] = mean_error(win_by_prompt(pool_, pool_.pool.sorted_rewards.at(name), rewards, prompts));
    }
    row.length = mean_error(per_prompt(file_.block.samples.length, prompts));
    row.finished = mean_error(per_prompt(file_.block.samples.finished, prompts));
    return row;
  }

  EvalRow bon(double n) const {
    EvalRow row{.name = "bon",
                .n = n,
                .evaluator = no_figure(),
                .length = no_figure(),
                .finished = no_figure(),
                .evaluator_win = no_figure()};
    std::vector<double> kl, win, reward, evaluator, evaluator_win;
    std::map<std::string, std::vector<double>> more;
    for (std::int64_t p = 0; p < file_.block.num_prompts(); ++p) {
      const BonOfPool best = bon_of_pool(rewards_of(p, "main"), n);
      kl.push_back(best.kl);
      win.push_back(best.win);
      reward.push_back(best.reward);
      const std::vector<double> weights = bon_weights(rewards_of(p, "main"), n);
      const auto judged_by = [&](const std::string& name) {
        const auto judged = rewards_of(p, name);
        return std::inner_product(weights.begin(), weights.end(), judged.begin(), 0.0);
      };
      if (has_evaluator()) {
        evaluator.push_back(judged_by("evaluator"));
        evaluator_win.push_back(bon_win_judged(rewards_of(p, "main"), rewards_of(p, "evaluator"), n));
      }
      for (const auto& [name, one] : settings_.rewards) more[name].push_back(judged_by(name));
    }
    for (const auto& [name, means] : more) row.more_reward[name] = mean_error(means);
    set(row.kl, row.kl_interval, kl);
    set(row.win, row.win_interval, win);
    set(row.reward, row.reward_interval, reward);
    if (has_evaluator()) {
      set(row.evaluator, row.evaluator_interval, evaluator);
      row.evaluator_win = mean_error(evaluator_win);
    }
    return row;
  }

  EvalRow analytic(double n) const {
    return {.name = "bon_analytic",
            .n = n,
            .kl = exactly(bon_kl(n)),
            .win = exactly(bon_win_rate(n)),
            .reward = no_figure(),
            .evaluator = no_figure(),
            .length = no_figure(),
            .finished = no_figure(),
            .evaluator_win = no_figure()};
  }

  const Settings& settings_;
  const UsedPool& pool_;
  const EvalFile& file_;
  RandomStream stream_;
};

std::string row_key(const EvalRow& row) { return row.n > 0 ? fmt::format("{}_{:g}", row.name, row.n) : row.name; }

void fill_summary(Evaluation& evaluation) {
  auto& out = evaluation.file.summary;
  for (const EvalRow& row : evaluation.rows) {
    const std::string key = row_key(row) + ".";
    const auto put = [&](const char* name, const MeanError& figure) {
      out[key + name] = figure.mean;
      out[key + name + "_se"] = figure.se;
    };
    put("kl", row.kl);
    put("win", row.win);
    put("reward", row.reward);
    put("evaluator", row.evaluator);
    put("evaluator_win", row.evaluator_win);
    put("length", row.length);
    put("finished", row.finished);
    for (const auto& [name, figure] : row.more_reward) put(("reward." + name).c_str(), figure);
    for (const auto& [name, figure] : row.more_win) put(("win." + name).c_str(), figure);
  }
  out["efficiency"] = evaluation.efficiency;
}

}  // namespace

double bon_win_at_kl(double kl) {
  if (!(kl > 0)) return 0.5;
  double low = 1, high = 2;
  while (bon_kl(high) < kl && high < 1e300) high *= 2;
  for (int i = 0; i < 200; ++i) {
    const double middle = 0.5 * (low + high);
    (bon_kl(middle) < kl ? low : high) = middle;
  }
  return bon_win_rate(low);
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
  result.rows = Table(settings, tools, file).rows();
  const EvalRow& policy = result.rows[1];
  const double bon_gain = bon_win_at_kl(policy.kl.mean) - 0.5;
  result.efficiency = policy.kl.mean > 1e-3 ? (policy.win.mean - 0.5) / bon_gain : kNaN;
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

std::vector<std::string> table_header(const Evaluation& evaluation) {
  std::vector<std::string> header = {"", "KL", "win rate", "reward", "evaluator", "length", "finished"};
  if (evaluation.rows.empty()) return header;
  for (const auto& [name, figure] : evaluation.rows.front().more_reward) {
    header.push_back(name);
    header.push_back(name + " win");
  }
  return header;
}

std::vector<std::vector<std::string>> table_rows(const Evaluation& evaluation) {
  std::vector<std::vector<std::string>> rows;
  for (const EvalRow& row : evaluation.rows) {
    const auto figure = [](const MeanError& f, int digits) -> std::string {
      if (std::isnan(f.mean)) return "";
      if (f.count <= 1) return fmt::format("{:.{}f}", f.mean, digits);
      return fmt::format("{:.{}f} ± {:.{}f}", f.mean, digits, f.se, digits);
    };
    std::string name = row.name;
    if (row.name == "bon") name = fmt::format("BoN N={:g}, from the pool", row.n);
    if (row.name == "bon_analytic") name = fmt::format("BoN N={:g}, analytic", row.n);
    rows.push_back({name, figure(row.kl, 3), figure(row.win, 3), figure(row.reward, 3), figure(row.evaluator, 3),
                    figure(row.length, 1), figure(row.finished, 2)});
    for (const auto& [more, reward] : evaluation.rows.front().more_reward)
      for (const auto* figures : {&row.more_reward, &row.more_win}) {
        const auto found = figures->find(more);
        rows.back().push_back(found == figures->end() ? "" : figure(found->second, 3));
      }
  }
  return rows;
}

std::string summary_json(const Evaluation& evaluation) {
  const auto number = [](double x) { return std::isfinite(x) ? nlohmann::json(x) : nlohmann::json(nullptr); };
  nlohmann::json rows = nlohmann::json::array();
  for (const EvalRow& row : evaluation.rows) {
    nlohmann::json r = {{"name", row.name}, {"n", row.n > 0 ? nlohmann::json(row.n) : nlohmann::json(nullptr)}};
    const auto put = [&](const std::string& name, const MeanError& f) {
      r[name] = number(f.mean);
      r[name + "_se"] = number(f.se);
    };
    put("kl", row.kl);
    put("win", row.win);
    put("reward", row.reward);
    put("evaluator", row.evaluator);
    put("evaluator_win", row.evaluator_win);
    put("length", row.length);
    put("finished", row.finished);
    for (const auto& [name, figure] : row.more_reward) put("reward." + name, figure);
    for (const auto& [name, figure] : row.more_win) put("win." + name, figure);
    const auto range = [&](const std::string& name, const Interval& i) {
      r[name + "_low"] = number(i.low);
      r[name + "_high"] = number(i.high);
    };
    if (row.name != "bon_analytic") {
      range("kl", row.kl_interval);
      range("win", row.win_interval);
      range("reward", row.reward_interval);
      range("evaluator", row.evaluator_interval);
    }
    rows.push_back(r);
  }
  const EvalHeader& h = evaluation.file.header;
  nlohmann::json summary = {{"format", "vbon.summary"},
                            {"evaluation", h.evaluation},
                            {"method", h.method},
                            {"temperature", h.temperature},
                            {"n", h.n},
                            {"step", h.checkpoint_step},
                            {"training_seed", h.training_seed},
                            {"evaluation_seed", h.evaluation_seed},
                            {"samples_per_prompt", evaluation.file.block.samples.num_samples},
                            {"prompts", evaluation.file.block.num_prompts()},
                            {"efficiency", number(evaluation.efficiency)},
                            {"rows", rows}};
  if (!evaluation.exact.empty()) {
    nlohmann::json exact;
    for (const auto& [name, value] : evaluation.exact) exact[name] = number(value);
    summary["exact"] = exact;
  }
  return summary.dump(1) + "\n";
}

}  // namespace vbon
