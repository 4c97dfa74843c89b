#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "vbon/base/files.hpp"
#include "vbon/base/log.hpp"
#include "vbon/cli/commands.hpp"
#include "vbon/generate/engine.hpp"
#include "vbon/model/hf_weights.hpp"
#include "vbon/text/records.hpp"
#include "vbon/train/run_inputs.hpp"

namespace vbon::cli {
namespace {

// Sampling as the model's own generation_config.json says; flags and a configuration go before it.
SamplingConfig sampling_of(const CommandLine& line, const Settings* settings) {
  SamplingConfig sampling = settings != nullptr ? settings->sampling : SamplingConfig{};
  const fs::path generation = line.model / "generation_config.json";
  if (settings == nullptr && fs::exists(generation)) {
    const nlohmann::json file = nlohmann::json::parse(read_file(generation), nullptr, false);
    if (file.is_object()) {
      sampling.temperature = file.value("temperature", sampling.temperature);
      sampling.max_new_tokens = file.value("max_new_tokens", sampling.max_new_tokens);
      sampling.top_k = file.value("top_k", sampling.top_k);
      sampling.top_p = file.value("top_p", sampling.top_p);
    }
  }
  if (line.temperature) sampling.temperature = *line.temperature;
  if (line.max_new_tokens > 0) sampling.max_new_tokens = line.max_new_tokens;
  throw_if_any(problems(sampling, /*allow_truncation=*/true));
  return sampling;
}

struct Answer {
  std::string response;
  double logp = 0;
  bool finished = false;
  std::optional<float> reward;
};

void print_answer(const CommandLine& line, const std::string& prompt, std::int64_t sample, const Answer& answer) {
  if (line.json) {
    nlohmann::json record = {{"prompt", prompt},
                             {"response", answer.response},
                             {"sample", sample},
                             {"logp", answer.logp},
                             {"finished", answer.finished}};
    if (answer.reward) record["reward"] = *answer.reward;
    fmt::print("{}\n", record.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    return;
  }
  fmt::print("{}{}\n", prompt, answer.response);
  if (answer.reward) fmt::print("  [reward {:.4f}]\n", *answer.reward);
}

}  // namespace

ExitCode run_sample_command(const CommandLine& line) {
  require(!line.model.empty(), "vbon sample needs a model folder: -m FOLDER");
  require(!line.prompts.empty(), "vbon sample needs a prompt: --prompt TEXT");
  require(line.samples >= 1 && line.best_of >= 1, "--samples and --best-of must be at least 1");
  const bool configured = !line.config.empty() || !line.overrides.empty();
  std::optional<Loaded> loaded;
  if (configured) loaded = load_settings(line, {});
  const Settings* settings = loaded ? &loaded->settings() : nullptr;
  std::unique_ptr<RewardModel> reward;
  if (line.best_of > 1) {
    require(settings != nullptr && settings->reward.configured(),
            "--best-of {} needs a reward to choose by: give a configuration with section `reward` (-c)", line.best_of);
    const auto program = settings->reward.kind == RewardKind::exec
                             ? std::make_shared<ExecProgram>(exec_options(settings->reward))
                             : nullptr;
    reward = load_reward(settings->reward, at::kCPU, program);
  }
  const SamplingConfig sampling = sampling_of(line, settings);
  const CausalLm model = load_causal_lm(line.model, at::kCPU);
  const Tokenizer tokenizer = Tokenizer::load(line.model);
  const std::optional<std::int64_t> start = settings != nullptr ? settings->model.start_token : std::nullopt;
  const auto seed =
      static_cast<std::uint64_t>(line.seed.value_or(settings != nullptr ? settings->run.seed.value_or(0) : 0));
  const PromptSet set = make_prompt_set(
      [&] {
        std::vector<std::int64_t> ids;
        for (std::size_t i = 0; i < line.prompts.size(); ++i) ids.push_back(static_cast<std::int64_t>(i));
        return ids;
      }(),
      line.prompts);
  for (std::size_t p = 0; p < set.size(); ++p) {
    const std::vector<std::int32_t> tokens = encode_text(tokenizer, start, set.texts[p]);
    const GenerateRequest request{.prompts = {{set.ids[p], tokens}},
                                  .num_samples = static_cast<std::int32_t>(line.samples * line.best_of)};
    const std::vector<Completion> drawn = generate(model, request,
                                                   {.sampling = sampling,
                                                    .eos_ids = model.spec.eos_ids,
                                                    .stream = RandomStream(seed, Purpose::sample, set.key())});
    std::vector<Answer> answers;
    for (const Completion& c : drawn) {
      Answer answer{.response = tokenizer.decode(c.tokens), .finished = c.finished};
      for (const float l : c.logp) answer.logp += l;
      answers.push_back(std::move(answer));
    }
    if (reward != nullptr) {
      std::vector<PromptResponse> pairs;
      for (const Answer& a : answers) pairs.push_back({set.texts[p], a.response});
      const std::vector<float> scores = reward->score(pairs);
      for (std::size_t i = 0; i < answers.size(); ++i) answers[i].reward = scores[i];
    }
    for (std::int64_t s = 0; s < line.samples; ++s) {
      const auto first = answers.begin() + s * line.best_of;
      const auto best = std::max_element(first, first + line.best_of, [](const Answer& a, const Answer& b) {
        return a.reward.value_or(0) < b.reward.value_or(0);
      });
      print_answer(line, set.texts[p], s, *best);
    }
  }
  return ExitCode::ok;
}

}  // namespace vbon::cli
