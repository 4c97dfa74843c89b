#include "vbon/store/pool.hpp"

#include <algorithm>
#include <cmath>

#include "vbon/base/error.hpp"
#include "vbon/base/words.hpp"
#include "vbon/store/h5_commit.hpp"

namespace vbon {
namespace {

void validate_header(const PoolHeader& header, const std::string& where) {
  require(std::isfinite(header.temperature) && header.temperature > 0, "{}: temperature {} is not > 0", where,
          header.temperature);
  require(header.num_samples >= 1 && header.max_new_tokens >= 1, "{}: {} samples of at most {} tokens are none", where,
          header.num_samples, header.max_new_tokens);
  require(header.ties == "uniform" || header.ties == "total_order", "{}: ties '{}' is neither uniform nor total_order",
          where, header.ties);
  require(std::isfinite(header.reward_round) && header.reward_round >= 0, "{}: reward_round {} is not >= 0", where,
          header.reward_round);
}

void validate_pool(const Pool& pool, const std::string& where, SampleParts parts) {
  validate_header(pool.header, where);
  require(pool.block.num_prompts() >= 1, "{} has no prompts", where);
  require(pool.block.samples.num_samples == pool.header.num_samples &&
              pool.block.samples.max_new_tokens == pool.header.max_new_tokens,
          "{}: sample/tokens has {} samples of {} tokens, the attributes say {} of {}", where,
          pool.block.samples.num_samples, pool.block.samples.max_new_tokens, pool.header.num_samples,
          pool.header.max_new_tokens);
  validate(pool.block, pool.header.eos_ids, where, parts);
  const PrefixRows& prefixes = pool.block.prefixes;
  require(parts == SampleParts::without_samples ||
              (prefixes.every == pool.header.prefix_every && prefixes.samples == pool.header.prefix_samples),
          "{}: prefixes of {} samples are cut every {} tokens, where {} and {} were said", where, prefixes.samples,
          prefixes.every, pool.header.prefix_samples, pool.header.prefix_every);
  require(parts != SampleParts::with_trunk || pool.block.trunk.block == pool.header.trunk_block,
          "{}: the trunk's rows enter block {}, where {} was said", where, pool.block.trunk.block,
          pool.header.trunk_block);
  require(pool.block.rewards.contains("main"), "{} has no reward 'main'", where);
}

std::string number_text(const std::optional<double>& value) { return value ? fmt::format("{}", *value) : ""; }

}  // namespace

namespace {
std::span<const float> row_of(const RewardColumns& columns, const std::string& reward, std::int64_t row,
                              std::int64_t num_samples) {
  const auto m = static_cast<std::size_t>(num_samples);
  return std::span(columns.at(reward)).subspan(static_cast<std::size_t>(row) * m, m);
}
}  // namespace

std::span<const float> Pool::rewards_of(std::int64_t row, const std::string& reward) const {
  return row_of(block.rewards, reward, row, header.num_samples);
}

std::span<const float> Pool::table(std::int64_t row, const std::string& reward) const {
  return row_of(sorted_rewards, reward, row, header.num_samples);
}

RewardColumns sorted_rows(const RewardColumns& rewards, std::int64_t num_samples) {
  RewardColumns sorted = rewards;
  for (auto& [name, values] : sorted)
    for (auto row = values.begin(); row != values.end(); row += num_samples) std::sort(row, row + num_samples);
  return sorted;
}

void write_pool_attributes(H5Group& root, const PoolHeader& header) {
  root.write_attribute("temperature", header.temperature);
  root.write_attribute("max_new_tokens", header.max_new_tokens);
  root.write_attribute("num_samples", header.num_samples);
  root.write_attribute("eos_ids", header.eos_ids);
  root.write_attribute("ties", header.ties);
  root.write_attribute("reward_output", header.reward_output);
  root.write_attribute("reward_round", header.reward_round);
  std::string more;
  for (const auto& [name, identity] : header.more_rewards) more += name + "=" + identity + "\n";
  if (!more.empty()) root.write_attribute("more_rewards", more);
  root.write_attribute("seconds", header.seconds);
}

PoolHeader read_pool_header(const H5Group& root) {
  PoolHeader header;
  header.provenance = read_provenance(root);
  header.temperature = root.attribute<double>("temperature");
  header.max_new_tokens = root.attribute<std::int64_t>("max_new_tokens");
  header.num_samples = root.attribute<std::int64_t>("num_samples");
  header.eos_ids = root.attribute<std::vector<std::int64_t>>("eos_ids");
  header.ties = root.attribute<std::string>("ties");
  header.reward_output = root.attribute<std::string>("reward_output");
  header.reward_round = root.attribute<double>("reward_round");
  header.seconds = root.attribute<double>("seconds");
  if (root.has_attribute("more_rewards"))
    for (const std::string& line : split(root.attribute<std::string>("more_rewards"), '\n'))
      if (const std::size_t mark = line.find('='); mark != std::string::npos)
        header.more_rewards[line.substr(0, mark)] = line.substr(mark + 1);
  if (root.has_attribute("trunk_block")) header.trunk_block = root.attribute<std::int64_t>("trunk_block");
  if (root.has_attribute("prefix_every")) {
    header.prefix_every = root.attribute<std::int64_t>("prefix_every");
    const bool fewer = root.has_attribute("prefix_samples");
    header.prefix_samples = fewer ? root.attribute<std::int64_t>("prefix_samples") : header.num_samples;
  }
  return header;
}

std::string write_pool(const fs::path& path, const PoolHeader& header, const SampleBlock& block) {
  validate_pool({header, block, {}, {}}, "the pool for '" + path.string() + "'", SampleParts::with_trunk);
  const RewardColumns sorted = sorted_rows(block.rewards, header.num_samples);
  return write_h5_atomically(path, [&](H5File& file) {
    write_provenance(file, kPoolFormat, kPoolSchema, header.provenance);
    write_pool_attributes(file, header);
    write_sample_block(file, block);
    for (const auto& [name, values] : sorted)
      file.write("logf/" + name + "/sorted_reward", {block.num_prompts(), header.num_samples}, values);
  });
}

Pool read_pool(const fs::path& path, SampleParts parts) {
  const H5File file = open_h5(path, kPoolFormat, kPoolSchema);
  Pool pool;
  pool.header = read_pool_header(file);
  pool.block = read_sample_block(file, parts);
  const std::string where = "'" + path.string() + "'";
  validate_pool(pool, where, parts);
  pool.sorted_rewards = sorted_rows(pool.block.rewards, pool.header.num_samples);
  for (const auto& [name, sorted] : pool.sorted_rewards)
    require(file.read<float>("logf/" + name + "/sorted_reward", {pool.block.num_prompts(), pool.header.num_samples}) ==
                sorted,
            "{}: logf/{}/sorted_reward is not reward/{}/value in ascending order", where, name, name);
  pool.content_sha256 =
      file.has_attribute("content_sha256") ? file.attribute<std::string>("content_sha256") : h5_content_sha256(file);
  return pool;
}

Pool first_samples(const Pool& pool, std::int64_t m) {
  Pool kept;
  kept.header = pool.header;
  kept.header.num_samples = m;
  kept.header.prefix_samples = std::min(m, pool.header.prefix_samples);
  kept.block = first_samples(pool.block, m);
  kept.sorted_rewards = sorted_rows(kept.block.rewards, m);
  kept.content_sha256 = pool.content_sha256;
  return kept;
}

std::string check_pool_use(const fs::path& path, const PoolHeader& header, const PoolUse& use, bool force) {
  const Provenance& made = header.provenance;
  std::vector<Comparison> comparisons = {
      {"reference", use.reference_sha256, made.reference_sha256},
      {"tokenizer", use.tokenizer_sha256, made.tokenizer_sha256},
      {"reward", use.reward_sha256, made.reward_sha256},
      {"evaluator", use.evaluator_sha256, made.evaluator_sha256},
      {"prompt set", use.prompts_sha256, made.prompts_sha256},
      {"temperature", number_text(use.temperature), number_text(header.temperature)},
      {"length limit (max_new_tokens)", use.max_new_tokens ? fmt::format("{}", *use.max_new_tokens) : "",
       fmt::format("{}", header.max_new_tokens)},
      {"reward.output", use.reward_output, header.reward_output},
      {"reward.round", number_text(use.reward_round), number_text(header.reward_round)},
      // Not compared with a file that does not say it.
      {"model.start_token", made.start_token.empty() ? "" : use.start_token, made.start_token}};
  for (const auto& [name, identity] : use.more_rewards) {
    const auto found = header.more_rewards.find(name);
    comparisons.push_back({"rewards." + name, identity, found == header.more_rewards.end() ? "none" : found->second});
  }
  return check_matches(path, comparisons, force, "Make the pool again with 'vbon pool', name another one");
}

PoolIndex::PoolIndex(const PromptRows& prompts) {
  for (std::int64_t row = 0; row < prompts.num_prompts(); ++row) {
    const auto at = static_cast<std::size_t>(row);
    rows_[prompts.text_sha256[at]].emplace_back(prompts.id[at], row);
  }
}

std::optional<std::int64_t> PoolIndex::find(std::int64_t prompt_id, const std::string& text_sha256) const {
  const auto at = rows_.find(text_sha256);
  if (at == rows_.end()) return std::nullopt;
  for (const auto& [id, row] : at->second)
    if (id == prompt_id) return row;
  return at->second.front().second;
}

std::vector<std::int64_t> PoolIndex::rows_of(const PromptRows& prompts, const fs::path& pool) const {
  constexpr std::size_t kNamed = 5;
  std::vector<std::int64_t> rows;
  std::vector<std::string> missing;
  for (std::size_t i = 0; i < prompts.id.size(); ++i) {
    if (const auto row = find(prompts.id[i], prompts.text_sha256[i])) rows.push_back(*row);
    else missing.push_back(fmt::format("{}", prompts.id[i]));
  }
  const std::size_t named = std::min(missing.size(), kNamed);
  require(missing.empty(), "'{}' lacks {} of {} prompts (id {}{}); make a pool of these prompts with 'vbon pool'",
          pool.string(), missing.size(), prompts.id.size(), joined(std::span(missing).first(named)),
          missing.size() > named ? ", …" : "");
  return rows;
}

}  // namespace vbon
