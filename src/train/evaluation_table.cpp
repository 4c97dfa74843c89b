#include "train/evaluation_table.hpp"

#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <span>
#include <string>

#include "vbon/base/rng.hpp"
#include "vbon/objective/bon.hpp"
#include "vbon/objective/bon_curve.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

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

class Table {
 public:
  Table(const Settings& settings, const UsedPool& pool, const EvalFile& file)
      : settings_(settings), pool_(pool), file_(file),
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

}  // namespace

std::int64_t evaluation_seed(const Settings& s) { return s.eval.seed.value_or(s.run.seed.value_or(0)); }

std::vector<double> win_by_prompt(const UsedPool& pool, const std::vector<float>& sorted,
                                  const std::vector<float>& rewards, std::int64_t num_prompts) {
  const std::int64_t m = pool.pool.header.num_samples, k = std::ssize(rewards) / num_prompts;
  std::vector<double> win;
  for (std::int64_t i = 0; i < std::ssize(rewards); ++i)
    win.push_back(win_rate(std::span(sorted).subspan(idx(pool.row[idx(i / k)] * m), idx(m)), rewards[idx(i)]));
  return per_prompt(win, num_prompts);
}

std::vector<EvalRow> evaluation_rows(const Settings& settings, const UsedPool& pool, const EvalFile& file) {
  return Table(settings, pool, file).rows();
}

std::vector<std::pair<std::string, MeanError>> figures_of(const EvalRow& row) {
  std::vector<std::pair<std::string, MeanError>> figures = {
      {"kl", row.kl},
      {"win", row.win},
      {"reward", row.reward},
      {"evaluator", row.evaluator},
      {"evaluator_win", row.evaluator_win},
      {"length", row.length},
      {"finished", row.finished},
  };
  for (const auto& [name, figure] : row.more_reward) figures.emplace_back("reward." + name, figure);
  for (const auto& [name, figure] : row.more_win) figures.emplace_back("win." + name, figure);
  return figures;
}

}  // namespace vbon
