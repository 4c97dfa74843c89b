// An evaluation as people and programs read it.
#include <cmath>
#include <nlohmann/json.hpp>

#include "train/evaluation_table.hpp"
#include "vbon/base/error.hpp"
#include "vbon/train/evaluate.hpp"

namespace vbon {

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
    for (const auto& [name, f] : figures_of(row)) {
      r[name] = number(f.mean);
      r[name + "_se"] = number(f.se);
    }
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
