#include "cli/plan_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "cli/plan_ranges.hpp"
#include "vbon/base/words.hpp"
#include "vbon/cli/table.hpp"

namespace vbon::cli {
namespace {

std::string bytes(std::int64_t n) { return human_bytes(static_cast<std::uint64_t>(std::max<std::int64_t>(0, n))); }
std::string number(std::int64_t n) { return n > 0 ? fmt::format("{}", n) : "-"; }
std::string numbers(std::int64_t n) {
  return n >= 10'000'000 ? fmt::format("{:.1f} M", static_cast<double>(n) / 1e6) : fmt::format("{}", n);
}
std::string duration(double seconds) {
  return seconds < 1 ? fmt::format("{:.3g} ms", seconds * 1e3) : human_seconds(seconds);
}
std::string range(int first, int last) {
  return first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last);
}

std::string placement_text(const RunPlan& plan) {
  const bool devices = plan.placement.ranks.front().device >= 0;
  std::set<int> nodes;
  for (const comm::Assignment& rank : plan.placement.ranks) nodes.insert(rank.node);
  std::string text =
      fmt::format("{} on {}, {} each, {}\n", counted(std::ssize(plan.placement.ranks), "rank"),
                  counted(std::ssize(nodes), "node"), counted(plan.threads, "thread"), devices ? "GPUs" : "CPUs");
  Table table(devices ? std::vector<std::string>{"ranks", "roles", "nodes", "devices"}
                      : std::vector<std::string>{"ranks", "roles", "nodes"});
  for (const RankRange& r : rank_ranges(plan.placement)) {
    std::vector<std::string> row = {range(r.first, r.last), r.roles.text(), range(r.first_node, r.last_node)};
    if (devices) row.push_back(r.devices);
    table.add_row(row);
  }
  return text + table.text();
}

std::string batch_text(const RunPlan& plan, const Settings& settings) {
  const BatchPlan& b = plan.batch;
  const std::int64_t t = settings.sampling.max_new_tokens;
  Table table({"work", "a step", "busiest rank", "whole run"});
  if (b.chunks > 0) {
    table.add_row({"prompts", number(b.prompts), "-", number(b.online_steps * b.prompts)});
    table.add_row(
        {"sequences", number(b.sequences), number(b.rollout_sequences), number(b.online_steps * b.sequences)});
    table.add_row(
        {"tokens, at most", number(b.tokens), number(b.rollout_sequences * t), number(b.online_steps * b.tokens)});
    table.add_row({"chunks to sample", number(b.chunks), number(b.rollout_chunks), number(b.online_steps * b.chunks)});
    table.add_row({"chunks to score", number(b.chunks), number(b.scorer_chunks), number(b.online_steps * b.chunks)});
    table.add_row({"updates", number(b.updates), number(b.updates), number(b.online_steps * b.updates)});
  }
  if (b.pool_updates > 0) table.add_row({"updates on the pool", "-", "-", number(b.pool_updates)});
  table.add_row({"sequences an update", number(b.chunks > 0 ? b.minibatch_sequences : b.pool_samples),
                 number(b.learner_sequences), "-"});
  table.add_row({"micro-batches an update", "-", number(b.micro_batches), "-"});
  std::string text = table.text();
  if (b.chunks > 0)
    text += fmt::format("a chunk: {} prompts x {} samples = {} sequences; updates: {} epochs x {} minibatches\n",
                        b.chunk_prompts, b.drawn, b.chunk_sequences, b.epochs, b.minibatches);
  return text;
}

std::string memory_text(const RunPlan& plan, const PlanContext& context) {
  std::string text = fmt::format("model {} parameters, {} trained{}\n", numbers(plan.parameters), numbers(plan.trained),
                                 plan.critic > 0 ? fmt::format(", critic {}", numbers(plan.critic)) : "");
  for (const RoleMemory& role : plan.memory.roles) {
    const bool devices = role.device > 0;
    text += fmt::format("\n{} ({}): {} a rank{}\n", role.roles.text(), counted(role.num_ranks, "rank"),
                        bytes(role.host), devices ? fmt::format(" and {} of its GPU", bytes(role.device)) : "");
    Table table({"what", "bytes", "held"});
    for (const MemoryItem& item : role.items)
      table.add_row({item.name, bytes(item.bytes),
                     std::string(name_of(item.held)) + (devices && !item.on_device ? ", host" : "")});
    text += table.text();
  }
  text += fmt::format("\nfullest node ({}): {}{}\n", plan.memory.fullest_node_index, bytes(plan.memory.fullest_node),
                      context.node_memory > 0 ? fmt::format("; this machine has {}", bytes(context.node_memory)) : "");
  if (plan.memory.fullest_device > 0)
    text +=
        fmt::format("fullest GPU: {}{}\n", bytes(plan.memory.fullest_device),
                    context.device_memory > 0 ? fmt::format("; a GPU here has {}", bytes(context.device_memory)) : "");
  return text;
}

std::string files_text(const RunPlan& plan, const PlanContext& context) {
  const FilePlan& f = plan.files;
  Table table({"files", "each", "kept", "bytes kept"});
  if (f.chunk_files > 0) {
    table.add_row({fmt::format("chunks of a step ({} files, gone when it is done)", f.chunk_files),
                   bytes(f.chunk_bytes / f.chunk_files), "-", "-"});
    table.add_row(
        {"rollouts of a step", bytes(f.step_bytes), number(f.steps_kept), bytes(f.steps_kept * f.step_bytes)});
  }
  table.add_row({fmt::format("checkpoints ({} files each, {} written)", f.checkpoint_files, f.checkpoints_written),
                 bytes(f.checkpoint_bytes), number(f.checkpoints_kept),
                 bytes(f.checkpoints_kept * f.checkpoint_bytes)});
  if (f.evaluations > 0)
    table.add_row(
        {"evaluations", bytes(f.evaluation_bytes), number(f.evaluations), bytes(f.evaluations * f.evaluation_bytes)});
  if (f.pool_bytes > 0) table.add_row({"pool of prompts.train", bytes(f.pool_bytes), "1", bytes(f.pool_bytes)});
  if (f.eval_pool_bytes > 0)
    table.add_row({"pool of prompts.eval", bytes(f.eval_pool_bytes), "1", bytes(f.eval_pool_bytes)});
  std::string text = table.text();
  text += fmt::format(
      "run folder at its fullest {}, with pools {}{}; written in all {}\n", bytes(f.run_bytes), bytes(f.total_bytes),
      context.free_disk > 0 ? fmt::format(" ({} free)", bytes(context.free_disk)) : "", bytes(f.written_bytes));
  if (f.step_operations > 0)
    text +=
        fmt::format("a step makes, reads, renames and removes files {} times, whatever the ranks\n", f.step_operations);
  if (f.publish_bytes + f.gradient_bytes > 0)
    text += fmt::format("between ranks, a step: weights {}, gradients {}\n", bytes(f.publish_bytes),
                        bytes(f.gradient_bytes));
  return text;
}

std::string modelled_text(const ModelledStep& step) {
  Table table({"a step, by the model", "time", "share"});
  const auto add = [&](const char* name, double seconds) {
    if (seconds > 0)
      table.add_row({name, duration(seconds), fmt::format("{:.0f}%", 100 * seconds / step.seconds.sum())});
  };
  add("what ranks do not share", step.seconds.fixed);
  add("sequences", step.seconds.compute);
  add("updates", step.seconds.update);
  add("meeting (log of the ranks)", step.seconds.latency);
  add("gradients sent", step.seconds.bytes);
  return fmt::format("{}a step {}, the run {} by '{}', measured on up to {} (largest error {:.0f}%){}\n", table.text(),
                     duration(step.seconds.sum()), duration(step.run_seconds), step.file,
                     counted(step.model.most_ranks, "rank"), 100 * step.model.relative_error,
                     step.beyond ? ": this is beyond what was measured" : "");
}

std::string time_text(const RunPlan& plan, const PlanContext& context) {
  const TimePlan& t = plan.time;
  Table table({"busiest rank", "GFLOP", "memory read", "time"});
  const auto add = [&](const char* name, const Work& work) {
    if (work.flops <= 0) return;
    table.add_row({name, fmt::format("{:.3g}", work.flops / 1e9),
                   work.bytes > 0 ? bytes(static_cast<std::int64_t>(work.bytes)) : "-",
                   t.estimated ? duration(work.seconds) : "-"});
  };
  add("a step: generate", t.generate);
  add("a step: score", t.score);
  add("a step: prepare", t.prepare);
  add("a step: update", t.update);
  add("an update on the pool", t.pool_update);
  add("an evaluation", t.evaluation);
  add("vbon pool (prompts.train)", t.pool);
  std::string text = (context.modelled ? modelled_text(*context.modelled) + "\n" : "") + table.text();
  if (!t.estimated)
    return text +
           "no time is given: there is nothing here to measure its GPUs with (--tflops and --gbps say what a rank "
           "sustains)\n";
  if (t.generate.flops > 0)
    text += fmt::format("a step {}{}, ", duration(t.step_seconds),
                        t.overlapped ? " (scorers work while others sample)" : "");
  text += fmt::format("the run {}\n", duration(t.run_seconds));
  if (context.rates)
    text += fmt::format(
        "by {}: {:.3g} GFLOP/s in products as narrow as decoding, {:.3g} in "
        "wide ones, {:.3g} GB/s read.\nProducts and weights alone: real steps take longer, by communication, files, "
        "attention and drawing; shorter responses make them faster.\n",
        context.rates_given
            ? "what the command line says of a rank"
            : fmt::format("what this machine did just now with {}{}", counted(plan.threads, "thread"),
                          context.rates->busy ? " (it is busy: one thread was faster and stands for them)" : ""),
        context.rates->decode_flops / 1e9, context.rates->learn_flops / 1e9, context.rates->bytes / 1e9);
  return text;
}

}  // namespace

std::vector<std::string> plan_warnings(const RunPlan& plan, const PlanContext& context) {
  std::vector<std::string> found;
  if (context.node_memory > 0 && plan.memory.fullest_node > context.node_memory)
    found.push_back(
        fmt::format("node {} needs {} of memory, and this machine has {}: fewer ranks a node, fewer trained layers "
                    "(train.layers), a smaller train.micro_batch, sampling.slots or train.reference_cache_mib",
                    plan.memory.fullest_node_index, bytes(plan.memory.fullest_node), bytes(context.node_memory)));
  if (context.device_memory > 0 && plan.memory.fullest_device > context.device_memory)
    found.push_back(
        fmt::format("a GPU needs {} of memory, and those here have {}: fewer ranks a GPU, fewer trained layers "
                    "(train.layers), a smaller train.micro_batch, sampling.slots or train.reference_cache_mib",
                    bytes(plan.memory.fullest_device), bytes(context.device_memory)));
  if (context.free_disk > 0 && plan.files.run_bytes > context.free_disk)
    found.push_back(
        fmt::format("the run folder grows to {}, and {} are free: keep fewer checkpoints (checkpoint.keep) or rollouts "
                    "(rollouts.keep), or choose another run.dir",
                    bytes(plan.files.run_bytes), bytes(context.free_disk)));
  return found;
}

std::string plan_text(const RunPlan& plan, const Settings& settings, const PlanContext& context) {
  std::string text = "placement: " + placement_text(plan) + "\nbatch\n" + batch_text(plan, settings) +
                     "\nmemory: " + memory_text(plan, context) + "\nfiles\n" + files_text(plan, context) + "\ntime\n" +
                     time_text(plan, context);
  if (!plan.notes.empty()) text += "\n";
  for (const std::string& note : plan.notes) text += "note: " + note + "\n";
  return text;
}

}  // namespace vbon::cli
