#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <span>

#include "vbon/base/files.hpp"
#include "vbon/base/log.hpp"
#include "vbon/cli/commands.hpp"
#include "vbon/generate/engine.hpp"
#include "vbon/model/hf_weights.hpp"
#include "vbon/objective/bon.hpp"
#include "vbon/store/pool.hpp"
#include "vbon/text/records.hpp"
#include "vbon/train/run_inputs.hpp"

namespace vbon::cli {
namespace {

// Sampling as the model's own generation_config.json says; flags and a configuration go before it.
SamplingConfig sampling_of(const CommandLine& line, const Settings* settings) {
  SamplingConfig sampling = settings != nullptr ? settings->sampling : SamplingConfig{};
  const fs::path generation = line.model / "generation_config.json";
  if (settings == nullptr && fs::exists(generation)) sampling = read_generation_config(generation);
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

// Which of samples that come in random order is the best: of equal rewards any (the first), or the last in the order of
// appendix C.
struct Candidate {
  float reward = 0;
  std::span<const std::int32_t> tokens;
};
std::size_t best_of(std::span<const Candidate> candidates, Ties ties) {
  const auto before = [ties](const Candidate& a, const Candidate& b) {
    if (ties == Ties::total_order) return total_order(a.reward, a.tokens, b.reward, b.tokens) < 0;
    return a.reward < b.reward;
  };
  return static_cast<std::size_t>(std::max_element(candidates.begin(), candidates.end(), before) - candidates.begin());
}

PromptSet prompts_of(const CommandLine& line) {
  if (line.prompt_file.empty()) {
    std::vector<std::int64_t> ids(line.prompts.size());
    std::iota(ids.begin(), ids.end(), 0);
    return make_prompt_set(std::move(ids), line.prompts);
  }
  require(line.prompts.empty(), "--prompt and --prompts exclude each other");
  return read_prompts(line.prompt_file.string());
}

// What --best-of did, so that its cost can be compared with one sample of a trained policy.
void report(const CommandLine& line, std::size_t prompts, std::int64_t tokens, double seconds) {
  const auto answers = static_cast<double>(prompts) * static_cast<double>(line.samples);
  log::info("{} answers, each the best of {}: {:.1f} s, {:.2f} answers/s, {:.0f} tokens/s", answers, line.best_of,
            seconds, answers / seconds, static_cast<double>(tokens) / seconds);
}

ExitCode sample_from_pool(const CommandLine& line) {
  require(line.model.empty(), "--pool and --model exclude each other: a pool's samples are drawn already");
  const bool configured = !line.config.empty() || !line.overrides.empty();
  std::optional<Loaded> loaded;
  if (configured) loaded = load_settings(line, {});
  const Ties ties = loaded ? loaded->settings().vbon.ties : Ties::uniform;
  const Pool pool = read_pool(line.pool);
  const std::int64_t m = pool.header.num_samples;
  require(line.best_of <= m, "--best-of {}, but '{}' holds {} samples a prompt", line.best_of, line.pool.string(), m);
  require(loaded && !loaded->settings().model.reference.empty(),
          "a pool holds token ids: name its reference's tokenizer, -s model.reference=FOLDER");
  const Tokenizer tokenizer = Tokenizer::load(loaded->settings().model.reference);
  require(tokenizer.sha256() == pool.header.provenance.tokenizer_sha256,
          "'{}' was made with another tokenizer than that of '{}'", line.pool.string(),
          loaded->settings().model.reference);
  const PromptRows& all = pool.block.prompts;
  std::vector<std::int64_t> rows;
  if (line.prompt_file.empty() && line.prompts.empty()) {
    rows.resize(static_cast<std::size_t>(all.num_prompts()));
    std::iota(rows.begin(), rows.end(), 0);
  } else {
    PromptRows wanted;
    const PromptSet set = prompts_of(line);
    for (std::size_t i = 0; i < set.size(); ++i) wanted.add(set.ids[i], set.texts[i], {});
    rows = PoolIndex(all).rows_of(wanted, line.pool);
  }
  const auto seed = static_cast<std::uint64_t>(line.seed.value_or(loaded->settings().run.seed.value_or(0)));
  std::int64_t tokens = 0;
  const auto begun = std::chrono::steady_clock::now();
  const std::vector<float>& rewards = pool.block.rewards.at("main");
  for (const std::int64_t row : rows)
    for (std::int64_t s = 0; s < line.samples; ++s) {
      // N of the M, another N for every answer.
      const std::vector<std::int64_t> order =
          permutation(RandomStream(seed, Purpose::subset, 2, row), m, static_cast<std::int32_t>(s));
      std::vector<Candidate> candidates;
      for (std::int64_t k = 0; k < line.best_of; ++k) {
        const std::int64_t sample = order[static_cast<std::size_t>(k)];
        candidates.push_back(
            {rewards[static_cast<std::size_t>(row * m + sample)], pool.block.samples.tokens_of(row, sample)});
      }
      const std::int64_t best = order[best_of(candidates, ties)];
      const auto at = static_cast<std::size_t>(row * m + best);
      tokens += std::ssize(pool.block.samples.tokens_of(row, best));
      print_answer(line, all.text[static_cast<std::size_t>(row)], s,
                   {.response = tokenizer.decode(pool.block.samples.tokens_of(row, best)),
                    .logp = pool.block.samples.logp_reference[at],
                    .finished = pool.block.samples.finished[at] == 1,
                    .reward = rewards[at]});
    }
  report(line, rows.size(), tokens, std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count());
  return ExitCode::ok;
}

}  // namespace

ExitCode run_sample_command(const CommandLine& line) {
  require(line.samples >= 1 && line.best_of >= 1, "--samples and --best-of must be at least 1");
  if (!line.pool.empty()) return sample_from_pool(line);
  require(!line.model.empty(), "vbon sample needs a model folder: -m FOLDER (or --pool FILE)");
  require(!line.prompts.empty() || !line.prompt_file.empty(),
          "vbon sample needs a prompt: --prompt TEXT or --prompts FILE");
  const bool configured = !line.config.empty() || !line.overrides.empty();
  std::optional<Loaded> loaded;
  if (configured) loaded = load_settings(line, {});
  const Settings* settings = loaded ? &loaded->settings() : nullptr;
  const PromptSet set = prompts_of(line);
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
  const Ties ties = settings != nullptr ? settings->vbon.ties : Ties::uniform;
  const auto seed =
      static_cast<std::uint64_t>(line.seed.value_or(settings != nullptr ? settings->run.seed.value_or(0) : 0));
  std::vector<std::vector<std::int32_t>> tokens;
  for (const std::string& text : set.texts) tokens.push_back(encode_text(tokenizer, start, text));
  const auto a_prompt = static_cast<std::size_t>(line.samples * line.best_of);
  const std::size_t together = std::max<std::size_t>(1, 2 * static_cast<std::size_t>(sampling.slots) / a_prompt);
  SamplerWeights weights;
  std::int64_t drawn_tokens = 0;
  const auto begun = std::chrono::steady_clock::now();
  for (std::size_t first = 0; first < set.size(); first += together) {
    GenerateRequest request{.num_samples = static_cast<std::int32_t>(a_prompt)};
    for (std::size_t p = first; p < std::min(set.size(), first + together); ++p)
      request.prompts.push_back({set.ids[p], tokens[p]});
    const std::vector<Completion> drawn = generate(model, request,
                                                   {.sampling = sampling,
                                                    .eos_ids = model.spec.eos_ids,
                                                    .stream = RandomStream(seed, Purpose::sample, set.key()),
                                                    .weights = &weights});
    std::vector<Answer> answers;
    for (const Completion& c : drawn) {
      Answer answer{.response = tokenizer.decode(c.tokens), .finished = c.finished};
      for (const float l : c.logp) answer.logp += l;
      answers.push_back(std::move(answer));
      drawn_tokens += std::ssize(c.tokens);
    }
    if (reward != nullptr) {
      std::vector<PromptResponse> pairs;
      for (std::size_t i = 0; i < answers.size(); ++i)
        pairs.push_back({set.texts[first + i / a_prompt], answers[i].response});
      const std::vector<float> scores = reward->score(pairs);
      for (std::size_t i = 0; i < answers.size(); ++i) answers[i].reward = scores[i];
    }
    for (std::size_t i = 0; i < answers.size(); i += static_cast<std::size_t>(line.best_of)) {
      std::vector<Candidate> candidates;
      for (std::size_t k = i; k < i + static_cast<std::size_t>(line.best_of); ++k)
        candidates.push_back({answers[k].reward.value_or(0), drawn[k].tokens});
      print_answer(line, set.texts[first + i / a_prompt], static_cast<std::int64_t>(i % a_prompt) / line.best_of,
                   answers[i + best_of(candidates, ties)]);
    }
  }
  if (line.best_of > 1)
    report(line, set.size(), drawn_tokens,
           std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count());
  return ExitCode::ok;
}

}  // namespace vbon::cli
