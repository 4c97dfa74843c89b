#include <algorithm>

#include "cli/stage.hpp"
#include "vbon/base/log.hpp"
#include "vbon/cli/table.hpp"
#include "vbon/train/amortise.hpp"

namespace vbon::cli {
namespace {

std::string weight_text(double weight) {
  if (weight == 0) return "counts alone";
  return weight >= 1e6 ? "head alone" : fmt::format("weight {:g}", weight);
}

// Errors of F, a row a number of samples, a column a weight of the head.
std::string shrinkage_text(const std::vector<ShrinkageError>& errors) {
  std::vector<std::string> header = {"error of F from"};
  for (const ShrinkageError& e : errors)
    if (e.samples == errors.front().samples) header.push_back(weight_text(e.weight));
  Table table(header);
  for (std::size_t i = 0; i < errors.size(); i += header.size() - 1) {
    std::vector<std::string> row = {fmt::format("{} samples", errors[i].samples)};
    for (std::size_t k = 0; k + 1 < header.size(); ++k) row.push_back(fmt::format("{:.3f}", errors[i + k].rmse));
    table.add_row(row);
  }
  return table.text();
}

}  // namespace

ExitCode run_amortise_command(comm::Communicator& world, const CommandLine& line, Prepared& prepared) {
  const Settings& settings = prepared.loaded.settings();
  std::vector<std::string> found = problems(settings.amortised);
  for (std::string& text : problems(settings.reward, "reward")) found.push_back(std::move(text));
  refuse(found);
  if (announce(line, prepared.loaded)) return ExitCode::ok;
  const AmortiseResult result = run_amortise(world, settings, prepared.loaded.text);
  if (!log::is_root()) return ExitCode::ok;
  if (result.skipped) {
    log::info("'{}' is there and was made so: nothing to do", settings.amortised.path);
    return ExitCode::ok;
  }
  log::info("{}: {} updates; -log density of a reward {:.3f}, by one mixture for all prompts {:.3f}",
            settings.amortised.path, result.fit.updates, result.fit.nll_prompt, result.fit.nll_marginal);
  if (result.heldout_prompts == 0) return ExitCode::ok;
  log::info(
      "on {} prompts of the evaluation pool: -log density {:.3f} (one for all {:.3f}), distance of F's transform "
      "from uniform {:.3f} ({:.3f})",
      result.heldout_prompts, result.head.nll, result.marginal.nll, result.head.ks, result.marginal.ks);
  if (!result.shrinkage.empty()) fmt::print("{}", shrinkage_text(result.shrinkage));
  flush_output();
  return ExitCode::ok;
}

}  // namespace vbon::cli
