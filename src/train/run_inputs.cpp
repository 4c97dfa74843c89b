#include "vbon/train/run_inputs.hpp"

#include <torch/csrc/api/include/torch/version.h>

#include "vbon/base/error.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/version.hpp"
#include "vbon/base/words.hpp"
#include "vbon/comm/agree.hpp"
#include "vbon/store/safetensors.hpp"
#include "vbon/text/records.hpp"

namespace vbon {
namespace {

std::string start_token_text(const Settings& settings) {
  return settings.model.start_token ? std::to_string(*settings.model.start_token) : "none";
}

}  // namespace

at::ScalarType scalar_type(Dtype dtype) { return dtype == Dtype::bf16 ? at::kBFloat16 : at::kFloat; }

std::string torch_version() { return TORCH_VERSION; }

std::unique_ptr<RewardModel> load_reward(const RewardConfig& config, at::Device device,
                                         const std::shared_ptr<ExecProgram>& program) {
  return std::make_unique<RewardModel>(make_reward(config, device, program));
}

std::vector<std::unique_ptr<RewardModel>> load_more_rewards(const Settings& settings, at::Device device,
                                                            const RewardPrograms& programs) {
  std::vector<std::unique_ptr<RewardModel>> loaded;
  for (const auto& [name, more] : settings.rewards) {
    const auto program = programs.more.find(name);
    loaded.push_back(load_reward(more.reward, device, program == programs.more.end() ? nullptr : program->second));
  }
  return loaded;
}

std::vector<RewardModel*> pointers_to(const std::vector<std::unique_ptr<RewardModel>>& rewards) {
  std::vector<RewardModel*> pointers;
  for (const auto& reward : rewards) pointers.push_back(reward.get());
  return pointers;
}

std::vector<std::int32_t> encode_text(const Tokenizer& tokenizer, const std::optional<std::int64_t>& start_token,
                                      std::string_view text) {
  std::vector<std::int32_t> tokens;
  if (start_token) tokens.push_back(static_cast<std::int32_t>(*start_token));
  // Text of data is text: what looks like a special token in it is not one.
  const std::vector<std::int32_t> own =
      tokenizer.encode(text, {.add_special_tokens = !start_token.has_value(), .parse_special = false});
  tokens.insert(tokens.end(), own.begin(), own.end());
  return tokens;
}

Prompts load_prompts(const std::string& path, const Settings& settings, const Tokenizer& tokenizer,
                     const LmSpec& spec) {
  const PromptSet set = read_prompts(path);
  require(tokenizer.vocab_size() <= spec.vocab_size,
          "the tokenizer has {} tokens, the model's embedding {}: they do not belong together", tokenizer.vocab_size(),
          spec.vocab_size);
  Prompts prompts{.sha256 = set.sha256, .key = set.key()};
  std::vector<std::string> too_long;
  for (std::size_t i = 0; i < set.size(); ++i) {
    const std::vector<std::int32_t> tokens = encode_text(tokenizer, settings.model.start_token, set.texts[i]);
    const auto length = static_cast<std::int64_t>(tokens.size());
    if (length == 0) too_long.push_back(fmt::format("{} (no tokens)", set.ids[i]));
    if (length + settings.sampling.max_new_tokens > spec.max_positions)
      too_long.push_back(fmt::format("{} ({} tokens)", set.ids[i], length));
    prompts.rows.add(set.ids[i], set.texts[i], tokens);
  }
  require(
      too_long.empty(),
      "'{}': {} prompts leave no room for {} new tokens within the model's {} positions, the first: prompt {}; shorten "
      "them or lower sampling.max_new_tokens",
      path, too_long.size(), settings.sampling.max_new_tokens, spec.max_positions,
      too_long.empty() ? "" : too_long.front());
  return prompts;
}

Identities identities_of(const Settings& settings) {
  const std::string tokenizer = Tokenizer::load(settings.model.reference).sha256();
  Identities found{.reference = folder_sha256(settings.model.reference),
                   .tokenizer = tokenizer,
                   .reward = reward_sha256(settings.reward),
                   .evaluator = settings.evaluator.configured() ? reward_sha256(settings.evaluator) : "",
                   .more = {}};
  for (const auto& [name, more] : settings.rewards)
    found.more[name] =
        fmt::format("{} {} {}", reward_sha256(more.reward), enum_name(more.reward.output), more.reward.round);
  return found;
}

Identities identify(RankContext& context, const Settings& settings) {
  std::string text;
  comm::together(*context.everyone, "hashes of models", [&] {
    if (context.world.rank() != 0) return;
    const Identities found = identities_of(settings);
    text = fmt::format("{}\n{}\n{}\n{}", found.reference, found.tokenizer, found.reward, found.evaluator);
    for (const auto& [name, identity] : found.more) text += "\n" + identity;
  });
  const std::vector<std::string> parts = split(comm::from_root(*context.everyone, text, 0, "hashes of models"), '\n');
  Identities shared{parts.at(0), parts.at(1), parts.at(2), parts.at(3), {}};
  std::size_t at = 4;
  for (const auto& [name, more] : settings.rewards) shared.more[name] = parts.at(at++);
  return shared;
}

std::map<std::string, std::string> environment_of(const RankContext& context) {
  return {{"vbon", version()},
          {"cpu", cpu_model()},
          {"threads_per_rank", std::to_string(context.threads)},
          {"device", context.device.str()},
          {"torch", torch_version()},
          {"mpi", comm::mpi_library_version()}};
}

Provenance provenance_of(const RankContext& context, const Settings& settings, const std::string& resolved_yaml,
                         const Identities& identities) {
  Provenance p;
  p.vbon_version = version();
  p.config = resolved_yaml;
  p.seed = settings.run.seed.value_or(0);
  p.dtype = settings.model.dtype == Dtype::bf16 ? "bfloat16" : "float32";
  p.threads_per_rank = context.threads;
  p.device = context.device.is_cuda() ? "cuda" : "cpu";
  p.library_versions = {{"torch", torch_version()}, {"mpi", comm::mpi_library_version()}};
  p.reference_sha256 = identities.reference;
  p.tokenizer_sha256 = identities.tokenizer;
  p.reward_sha256 = identities.reward;
  p.evaluator_sha256 = identities.evaluator;
  p.start_token = start_token_text(settings);
  return p;
}

UsedPool load_pool(const std::string& path, const Settings& settings, const Prompts& prompts,
                   const Identities& identities, bool force, std::string& forced, const PoolReading& how) {
  UsedPool used{.pool = read_pool(path, how.parts)};
  PoolUse use{.reference_sha256 = identities.reference,
              .tokenizer_sha256 = identities.tokenizer,
              .reward_sha256 = identities.reward,
              .prompts_sha256 = how.some_prompts ? "" : prompts.sha256,
              .temperature = settings.sampling.temperature,
              .max_new_tokens = settings.sampling.max_new_tokens,
              .reward_round = settings.reward.round,
              .reward_output = std::string(enum_name(settings.reward.output)),
              .start_token = start_token_text(settings),
              .more_rewards = identities.more};
  if (used.pool.block.rewards.contains("evaluator")) use.evaluator_sha256 = identities.evaluator;
  const std::string overridden = check_pool_use(path, used.pool.header, use, force);
  if (!overridden.empty()) forced += (forced.empty() ? "" : "; ") + overridden;
  if (how.use > 0) {
    require(how.use <= used.pool.header.num_samples, "pool.use is {}, but '{}' holds {} samples a prompt", how.use,
            path, used.pool.header.num_samples);
    used.pool = first_samples(used.pool, how.use);
  }
  used.table = std::make_unique<LogFTable>(used.pool.sorted_rewards.at("main"), used.pool.block.num_prompts(),
                                           settings.vbon.estimator);
  for (const auto& [name, more] : settings.rewards)
    used.more.push_back({.name = name,
                         .n = more.n,
                         .table = std::make_unique<LogFTable>(used.pool.sorted_rewards.at(name),
                                                              used.pool.block.num_prompts(), settings.vbon.estimator)});
  if (settings.vbon.ties == Ties::total_order) {
    const SampleBlock& block = used.pool.block;
    used.table->set_total_order({block.rewards.at("main"), block.samples.tokens, block.samples.length});
    for (const MoreTable& more : used.more)
      more.table->set_total_order({block.rewards.at(more.name), block.samples.tokens, block.samples.length});
  }
  const PoolIndex index(used.pool.block.prompts);
  if (!how.some_prompts) {
    used.row = index.rows_of(prompts.rows, path);
    return used;
  }
  for (std::size_t i = 0; i < prompts.rows.id.size(); ++i)
    used.row.push_back(index.find(prompts.rows.id[i], prompts.rows.text_sha256[i]).value_or(-1));
  return used;
}

}  // namespace vbon
