#include <nlohmann/json.hpp>

#include "cli/plan_ranges.hpp"
#include "cli/plan_text.hpp"

namespace vbon::cli {
namespace {

using Json = nlohmann::ordered_json;

Json placement_json(const RunPlan& plan) {
  Json ranges = Json::array();
  for (const RankRange& r : rank_ranges(plan.placement))
    ranges.push_back({{"first", r.first},
                      {"last", r.last},
                      {"roles", r.roles.text()},
                      {"first_node", r.first_node},
                      {"last_node", r.last_node},
                      {"devices", r.devices}});
  Json ranks = Json::array();
  for (const comm::Assignment& rank : plan.placement.ranks)
    ranks.push_back({{"roles", rank.roles.text()}, {"node", rank.node}, {"device", rank.device}});
  return {{"ranks", plan.placement.ranks.size()}, {"threads", plan.threads}, {"ranges", ranges}, {"each", ranks}};
}

Json batch_json(const BatchPlan& b) {
  return {{"prompts", b.prompts},
          {"samples", b.samples},
          {"sequences", b.sequences},
          {"tokens", b.tokens},
          {"chunks", b.chunks},
          {"chunk_prompts", b.chunk_prompts},
          {"chunk_sequences", b.chunk_sequences},
          {"epochs", b.epochs},
          {"minibatches", b.minibatches},
          {"minibatch_sequences", b.minibatch_sequences},
          {"updates", b.updates},
          {"busiest",
           {{"rollout_chunks", b.rollout_chunks},
            {"rollout_sequences", b.rollout_sequences},
            {"scorer_chunks", b.scorer_chunks},
            {"scorer_sequences", b.scorer_sequences},
            {"learner_sequences", b.learner_sequences},
            {"micro_batches", b.micro_batches},
            {"micro_batch_sequences", b.micro_batch_sequences}}},
          {"run",
           {{"steps", b.steps},
            {"online_steps", b.online_steps},
            {"pool_updates", b.pool_updates},
            {"updates", b.run_updates},
            {"episodes", b.run_episodes},
            {"tokens", b.run_tokens}}}};
}

Json memory_json(const RunPlan& plan, const PlanContext& context) {
  Json roles = Json::array();
  for (const RoleMemory& role : plan.memory.roles) {
    Json items = Json::array();
    for (const MemoryItem& item : role.items)
      items.push_back(
          {{"name", item.name}, {"bytes", item.bytes}, {"held", name_of(item.held)}, {"on_device", item.on_device}});
    roles.push_back({{"roles", role.roles.text()},
                     {"ranks", role.num_ranks},
                     {"host", role.host},
                     {"device", role.device},
                     {"items", items}});
  }
  return {{"parameters", plan.parameters},
          {"trained", plan.trained},
          {"critic", plan.critic},
          {"roles", roles},
          {"fullest_node", {{"node", plan.memory.fullest_node_index}, {"bytes", plan.memory.fullest_node}}},
          {"fullest_device", plan.memory.fullest_device},
          {"this_machine", {{"bytes", context.node_memory}, {"device_bytes", context.device_memory}}}};
}

Json files_json(const FilePlan& f, const PlanContext& context) {
  return {{"step",
           {{"chunk_files", f.chunk_files},
            {"chunk_bytes", f.chunk_bytes},
            {"rollout_bytes", f.step_bytes},
            {"operations", f.step_operations}}},
          {"rollouts_kept", f.steps_kept},
          {"checkpoint",
           {{"files", f.checkpoint_files},
            {"bytes", f.checkpoint_bytes},
            {"written", f.checkpoints_written},
            {"kept", f.checkpoints_kept}}},
          {"evaluations", {{"count", f.evaluations}, {"bytes", f.evaluation_bytes}}},
          {"pool_bytes", f.pool_bytes},
          {"eval_pool_bytes", f.eval_pool_bytes},
          {"run_bytes", f.run_bytes},
          {"total_bytes", f.total_bytes},
          {"written_bytes", f.written_bytes},
          {"free_bytes", context.free_disk},
          {"messages", {{"publish_bytes", f.publish_bytes}, {"gradient_bytes", f.gradient_bytes}}}};
}

Json time_json(const TimePlan& t, const PlanContext& context) {
  const auto seconds = [&](double value) { return t.estimated ? Json(value) : Json(); };
  const auto work = [&](const Work& w) {
    return Json{{"flops", w.flops}, {"bytes", w.bytes}, {"seconds", seconds(w.seconds)}};
  };
  Json rates;
  if (context.rates)
    rates = {{"decode_flops", context.rates->decode_flops},
             {"learn_flops", context.rates->learn_flops},
             {"bytes", context.rates->bytes}};
  Json model;
  if (context.modelled) {
    const ModelledStep& m = *context.modelled;
    model = {{"file", m.file},
             {"sequences", m.sequences},
             {"updates", m.updates},
             {"sent_bytes", m.sent_bytes},
             {"step_seconds", m.seconds.sum()},
             {"run_seconds", m.run_seconds},
             {"relative_error", m.model.relative_error},
             {"measured_ranks", m.model.most_ranks},
             {"beyond", m.beyond}};
    StepTerms::visit([&](const char* name, double value) { model["parts"][name] = value; }, m.seconds);
  }
  return {{"rates", rates},
          {"model", model},
          {"overlapped", t.overlapped},
          {"generate", work(t.generate)},
          {"score", work(t.score)},
          {"prepare", work(t.prepare)},
          {"update", work(t.update)},
          {"pool_update", work(t.pool_update)},
          {"evaluation", work(t.evaluation)},
          {"pool", work(t.pool)},
          {"step_seconds", seconds(t.step_seconds)},
          {"run_seconds", seconds(t.run_seconds)}};
}

}  // namespace

std::string plan_json(const RunPlan& plan, const PlanContext& context) {
  return Json{{"placement", placement_json(plan)},       {"batch", batch_json(plan.batch)},
              {"memory", memory_json(plan, context)},    {"files", files_json(plan.files, context)},
              {"time", time_json(plan.time, context)},   {"notes", plan.notes},
              {"warnings", plan_warnings(plan, context)}}
      .dump();
}

}  // namespace vbon::cli
