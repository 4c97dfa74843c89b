#include "cli/plan_inputs.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>

#include "cli/host.hpp"
#include "vbon/base/error.hpp"
#include "vbon/comm/doctor.hpp"
#include "vbon/model/hf_weights.hpp"
#include "vbon/model/text_classifier.hpp"
#include "vbon/text/records.hpp"
#include "vbon/text/tokenizer.hpp"
#include "vbon/train/run_inputs.hpp"

namespace vbon::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kAssumedPrompt = 32;  // tokens, where prompts cannot be read
constexpr std::size_t kTokenised = 1000;     // prompts at most: long files are sampled

fs::path model_folder(const Settings& settings, std::vector<std::string>& notes) {
  const fs::path reference = settings.model.reference, base = settings.model.base;
  if (fs::exists(reference)) return reference;
  require(
      !base.empty() && fs::exists(base),
      "'{}' is not there yet{}: a plan needs at least the model's config.json (give model.base, or copy that one file)",
      reference.string(), base.empty() ? "" : fmt::format(", nor is '{}'", base.string()));
  notes.push_back(
      fmt::format("'{}' is not there yet: planned with config.json of '{}'", reference.string(), base.string()));
  return base;
}

void read_tokenizer_files(const fs::path& folder, PlanInputs& inputs) {
  const std::vector<std::string> names = tokenizer_files(folder);
  inputs.tokenizer_files = static_cast<std::int64_t>(names.size());
  for (const std::string& name : names)
    inputs.tokenizer_bytes += static_cast<std::int64_t>(fs::file_size(folder / name));
}

// Mean and longest of the prompts, by the tokenizer where there is one.
void measure_prompts(const PromptSet& set, const fs::path& folder, const Settings& settings, PlanInputs& inputs,
                     std::vector<std::string>& notes) {
  std::optional<Tokenizer> tokenizer;
  if (!tokenizer_sources(folder).empty()) tokenizer = Tokenizer::load(folder);
  else notes.push_back(fmt::format("'{}' has no tokenizer.json: a token is taken to be four bytes", folder.string()));
  const auto tokens_of = [&](const std::string& text) {
    if (tokenizer) return static_cast<std::int64_t>(encode_text(*tokenizer, settings.model.start_token, text).size());
    return static_cast<std::int64_t>(text.size() + 3) / 4 + (settings.model.start_token ? 1 : 0);
  };
  const std::size_t stride = std::max<std::size_t>(1, set.size() / kTokenised);
  double sum = 0, count = 0;
  std::size_t longest = 0;
  for (std::size_t i = 0; i < set.size(); ++i) {
    if (set.texts[i].size() > set.texts[longest].size()) longest = i;
    if (i % stride != 0) continue;
    const std::int64_t tokens = tokens_of(set.texts[i]);
    inputs.longest_prompt = std::max(inputs.longest_prompt, tokens);
    sum += static_cast<double>(tokens);
    ++count;
  }
  inputs.longest_prompt = std::max(inputs.longest_prompt, tokens_of(set.texts[longest]));
  inputs.prompt_tokens = sum / count;
}

void read_prompt_files(const Settings& settings, const fs::path& folder, PlanInputs& inputs,
                       std::vector<std::string>& notes) {
  const std::string& train = settings.prompts.train;
  if (!train.empty() && fs::exists(train)) {
    const PromptSet set = read_prompts(train);
    inputs.num_prompts = static_cast<std::int64_t>(set.size());
    measure_prompts(set, folder, settings, inputs, notes);
  } else {
    inputs.longest_prompt = kAssumedPrompt;
    inputs.prompt_tokens = static_cast<double>(kAssumedPrompt);
    notes.push_back(
        train.empty() ? fmt::format("prompts.train is not set: prompts of {} tokens are assumed", kAssumedPrompt)
                      : fmt::format("'{}' is not there yet: prompts of {} tokens are assumed", train, kAssumedPrompt));
  }
  if (settings.eval.every == 0) return;
  if (!settings.prompts.eval.empty() && fs::exists(settings.prompts.eval))
    inputs.num_eval_prompts = static_cast<std::int64_t>(read_prompts(settings.prompts.eval).size());
  else notes.emplace_back("prompts.eval is not there yet: evaluations are left out");
}

PlannedReward read_reward(const RewardConfig& config, const char* section, std::vector<std::string>& notes) {
  PlannedReward reward;
  if (config.kind == RewardKind::classifier) {
    for (const std::string& folder : {config.path, config.train.base}) {
      if (folder.empty() || !fs::exists(folder)) continue;
      const ClassifierSpec spec = read_classifier_spec(folder);
      if (const auto* const encoder = std::get_if<EncoderSpec>(&spec)) reward.encoder = *encoder;
      else reward.lm = std::get<LmClassifierSpec>(spec).lm;
      if (folder != config.path)
        notes.push_back(fmt::format("{}: '{}' is not there yet: planned with '{}'", section, config.path, folder));
      break;
    }
  } else if (config.kind == RewardKind::ngram && fs::is_directory(config.path)) {
    for (const auto& entry : fs::directory_iterator(config.path))
      if (entry.is_regular_file()) reward.file_bytes += static_cast<std::int64_t>(entry.file_size());
  }
  return reward;
}

int planned_devices(const Settings& settings) {
  if (settings.cluster.device == comm::DeviceKind::cpu) return 0;
  if (settings.cluster.devices_per_node >= 0) return settings.cluster.devices_per_node;
  const auto here = static_cast<int>(comm::cuda_facts().devices.size());
  require(here > 0 || settings.cluster.device != comm::DeviceKind::cuda,
          "cluster.device is cuda, but this machine has no CUDA device to count; say how many a node has: "
          "cluster.devices_per_node");
  return here;
}

}  // namespace

ReadPlanInputs read_plan_inputs(const Settings& settings, int ranks) {
  ReadPlanInputs read;
  PlanInputs& inputs = read.inputs;
  const fs::path folder = model_folder(settings, read.notes);
  inputs.model = read_lm_spec(folder);
  inputs.topology = comm::Topology::uniform(ranks, settings.cluster.ranks_per_node, planned_devices(settings));
  inputs.cores_per_node = host_cores().allowed;
  inputs.process_bytes = resident_bytes();
  read_tokenizer_files(folder, inputs);
  read_prompt_files(settings, folder, inputs, read.notes);
  inputs.reward = read_reward(settings.reward, "reward", read.notes);
  if (settings.evaluator.configured()) inputs.evaluator = read_reward(settings.evaluator, "evaluator", read.notes);
  return read;
}

}  // namespace vbon::cli
