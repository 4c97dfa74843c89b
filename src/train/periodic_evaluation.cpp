#include "train/periodic_evaluation.hpp"

#include <chrono>
#include <string>

#include "vbon/base/files.hpp"
#include "vbon/comm/agree.hpp"
#include "vbon/train/carried_trunk.hpp"

namespace vbon {

PeriodicEvaluation::PeriodicEvaluation(RankContext& context, const Settings& settings, const TrainingInputs& in,
                                       const LearnerState* learner, CollectionTools tools, Provenance provenance)
    : context_(context), settings_(settings), in_(in), learner_(learner), tools_(std::move(tools)),
      provenance_(std::move(provenance)),
      chunks_(fs::path(settings.run.dir) / "eval" / "chunks", Keep::all(), file_wait_s(settings.cluster)) {}

bool PeriodicEvaluation::is_due(std::int64_t step) const {
  return settings_.eval.every > 0 && (step % settings_.eval.every == 0 || step == settings_.train.steps);
}

fs::path PeriodicEvaluation::file(std::int64_t step) const {
  return fs::path(settings_.run.dir) / "eval" / fmt::format("step-{:08}.h5", step);
}

bool PeriodicEvaluation::is_there(std::int64_t step) const {
  return comm::any_rank(*context_.everyone, context_.is_root() && fs::exists(file(step)), "evaluation there");
}

Evaluation PeriodicEvaluation::evaluate(std::int64_t step) {
  const Phases::Scope scope(context_.phases, Phase::evaluate, context_.world.waiter());
  const auto begin = Phases::Clock::now();
  Evaluation result = vbon::evaluate(
      context_, settings_,
      {.prompts = *in_.eval_prompts,
       .pool = *in_.eval_pool,
       .collection = tools_,
       .reference = learner_ != nullptr ? &in_.reference : nullptr,
       .policy = learner_ != nullptr ? &learner_->policy : nullptr,
       .header = eval_header(settings_, provenance_, *in_.eval_prompts, *in_.eval_pool, in_.spec,
                             std::string(enum_name(settings_.train.method)), step),
       .chunks = &chunks_,
       .trunk_block = carried_block(settings_, in_.spec)});
  if (context_.is_root()) {
    chunks_.clean();
    write_file_atomically(file(step).replace_extension(".json"), summary_json(result));
    write_eval(file(step), result.file);  // last: with it the step is evaluated
  }
  seconds_ = std::chrono::duration<double>(Phases::Clock::now() - begin).count();
  return result;
}

}  // namespace vbon
