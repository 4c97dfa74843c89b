#include <cmath>
#include <memory>

#include "cli/stage.hpp"
#include "vbon/base/log.hpp"
#include "vbon/cli/progress.hpp"
#include "vbon/train/sft.hpp"

namespace vbon::cli {

ExitCode run_sft_command(comm::Communicator& world, const CommandLine& line, Prepared& prepared) {
  const Settings& settings = prepared.loaded.settings();
  refuse(problems(settings.sft));
  if (announce(line, prepared.loaded)) return ExitCode::ok;
  std::unique_ptr<Progress> progress;
  const SftResult result = run_sft(world, settings, prepared.loaded.text, [&](const SftProgress& p) {
    if (!progress) progress = start_progress(line, settings, {.what = "sft", .unit = "updates", .total = p.total});
    progress->update(p.update, fmt::format("loss {:.3f}", p.loss));
  });
  if (result.code != ExitCode::ok) return result.code;
  if (progress) progress->finish();
  if (result.skipped) log::info("'{}' is there and was made so: nothing to do", settings.model.reference);
  else if (std::isfinite(result.perplexity_after))
    log::info("reference: {} (perplexity {:.1f} -> {:.1f})", settings.model.reference, result.perplexity_before,
              result.perplexity_after);
  else log::info("reference: {}", settings.model.reference);
  return ExitCode::ok;
}

}  // namespace vbon::cli
