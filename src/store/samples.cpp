#include "vbon/store/samples.hpp"

#include <algorithm>
#include <cmath>
#include <unordered_set>
#include <utility>

#include "vbon/base/error.hpp"
#include "vbon/base/sha256.hpp"

namespace vbon {
namespace {

// Sums of log-probabilities are at most 0 up to the rounding of some hundred float additions.
constexpr float kLogpSlack = 1e-3f;

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

void validate_prompts(const PromptRows& prompts, const std::string& where) {
  const std::size_t p = prompts.id.size();
  require(prompts.text.size() == p && prompts.text_sha256.size() == p && prompts.offset.size() == p + 1,
          "{}: the prompts' datasets disagree in length", where);
  require(prompts.offset.front() == 0 && std::is_sorted(prompts.offset.begin(), prompts.offset.end()) &&
              prompts.offset.back() == static_cast<std::int64_t>(prompts.tokens.size()),
          "{}: prompt/offset does not rise from 0 to the number of prompt tokens", where);
  require(std::all_of(prompts.tokens.begin(), prompts.tokens.end(), [](std::int32_t token) { return token >= 0; }),
          "{}: a prompt token is negative", where);
  std::unordered_set<std::int64_t> ids;
  for (std::size_t row = 0; row < p; ++row) {
    require(ids.insert(prompts.id[row]).second, "{}: two prompts have the id {}", where, prompts.id[row]);
    require(prompts.text_sha256[row] == sha256_hex(prompts.text[row]), "{}: text_sha256 of prompt {} is not its text's",
            where, prompts.id[row]);
  }
}

void validate_sample(std::span<const std::int32_t> tokens, std::int32_t length, std::uint8_t finished,
                     std::span<const std::int64_t> eos_ids, const std::string& where, std::int64_t row,
                     std::int64_t sample) {
  const auto refuse_unless = [&](bool condition, const char* what) {
    require(condition, "{}: sample {} of row {}: {}", where, sample, row, what);
  };
  refuse_unless(length >= 1 && index(length) <= tokens.size(), "its length is not in [1, T]");
  const auto used = tokens.first(index(length));
  refuse_unless(std::all_of(used.begin(), used.end(), [](std::int32_t token) { return token >= 0; }),
                "a token before its end is negative");
  const auto rest = tokens.subspan(index(length));
  refuse_unless(std::all_of(rest.begin(), rest.end(), [](std::int32_t token) { return token == -1; }),
                "a token after its end is not -1");
  refuse_unless(finished <= 1, "'finished' is neither 0 nor 1");
  refuse_unless(finished == 1 || index(length) == tokens.size(), "it is neither finished nor cut at T");
  if (eos_ids.empty()) return;
  const bool ended = std::find(eos_ids.begin(), eos_ids.end(), used.back()) != eos_ids.end();
  refuse_unless(ended == (finished == 1), "'finished' and its last token disagree");
}

void validate_samples(const SampleRows& samples, std::int64_t num_prompts, std::span<const std::int64_t> eos_ids,
                      const std::string& where) {
  const std::int64_t m = samples.num_samples, t = samples.max_new_tokens;
  require(m >= 1 && t >= 1, "{}: {} samples of {} tokens are none", where, m, t);
  const std::size_t count = index(num_elements({num_prompts, m}, where));
  require(samples.tokens.size() == index(num_elements({num_prompts, m, t}, where)) && samples.length.size() == count &&
              samples.finished.size() == count && samples.logp_reference.size() == count,
          "{}: the samples' datasets disagree in size", where);
  for (std::int64_t row = 0; row < num_prompts; ++row)
    for (std::int64_t s = 0; s < m; ++s) {
      const std::size_t at = index(row * m + s);
      validate_sample(std::span(samples.tokens).subspan(at * index(t), index(t)), samples.length[at],
                      samples.finished[at], eos_ids, where, row, s);
      require(std::isfinite(samples.logp_reference[at]) && samples.logp_reference[at] <= kLogpSlack,
              "{}: sample {} of row {}: its log-probability {} is none", where, s, row, samples.logp_reference[at]);
    }
}

// A number at every cut inside the response, NaN behind its end.
void validate_prefixes(const SampleBlock& block, const std::string& where) {
  const PrefixRows& prefixes = block.prefixes;
  const std::int64_t cuts = prefixes.num_cuts(block.samples.max_new_tokens);
  const std::int64_t m = block.samples.num_samples, s = prefixes.samples;
  require(prefixes.every >= 0 && (prefixes.every == 0 ? s == 0 : 1 <= s && s <= m),
          "{}: prefixes of {} samples a prompt, of {} that there are", where, s, m);
  const std::size_t size = index(num_elements({block.num_prompts(), s, cuts}, where));
  require(prefixes.reward.size() == size && prefixes.logp_reference.size() == size,
          "{}: the prefixes' datasets do not have {} cuts a sample", where, cuts);
  for (std::size_t i = 0; i < size; ++i) {
    const auto place = static_cast<std::int64_t>(i) / cuts;
    const std::size_t sample = index(place / s * m + place % s);
    const bool inside = static_cast<std::int64_t>(i) % cuts < prefixes.num_cuts(block.samples.length[sample]);
    const bool is_number = std::isfinite(prefixes.reward[i]) && std::isfinite(prefixes.logp_reference[i]);
    require(inside ? is_number : std::isnan(prefixes.reward[i]) && std::isnan(prefixes.logp_reference[i]),
            "{}: cut {} of sample {}: a number {}", where, i % index(cuts), sample,
            inside ? "is missing" : "behind the end");
  }
}

void validate_trunk(const SampleBlock& block, const std::string& where) {
  const TrunkRows& trunk = block.trunk;
  require(trunk.block >= 0 && (trunk.block == 0) == (trunk.width == 0), "{}: rows of {} numbers enter block {}", where,
          trunk.width, trunk.block);
  const std::int64_t rows = trunk.block > 0 ? trunk_offsets(block.samples).back() : 0;
  require(trunk.prompt.size() == block.prompts.tokens.size() * index(trunk.width) &&
              trunk.samples.size() == index(rows * trunk.width),
          "{}: the trunk's rows are not one a token", where);
  const auto finite = [](float x) { return std::isfinite(x); };
  require(std::all_of(trunk.prompt.begin(), trunk.prompt.end(), finite) &&
              std::all_of(trunk.samples.begin(), trunk.samples.end(), finite),
          "{}: the trunk's rows hold numbers that are not finite", where);
}

template <class T>
void extend(std::vector<T>& all, const std::vector<T>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

// The first m of every group of `of` entries of `width` values.
template <class T>
std::vector<T> first_of_each(const std::vector<T>& values, std::int64_t of, std::int64_t m, std::int64_t width) {
  std::vector<T> kept;
  for (std::size_t at = 0; at < values.size(); at += index(of * width))
    kept.insert(kept.end(), values.begin() + static_cast<std::ptrdiff_t>(at),
                values.begin() + static_cast<std::ptrdiff_t>(at) + m * width);
  return kept;
}

}  // namespace

std::span<const std::int32_t> PromptRows::tokens_of(std::int64_t row) const {
  const std::int64_t begin = offset[index(row)];
  return std::span(tokens).subspan(index(begin), index(offset[index(row) + 1] - begin));
}

void PromptRows::add(std::int64_t prompt_id, std::string prompt_text, std::span<const std::int32_t> prompt_tokens) {
  id.push_back(prompt_id);
  text_sha256.push_back(sha256_hex(prompt_text));
  text.push_back(std::move(prompt_text));
  tokens.insert(tokens.end(), prompt_tokens.begin(), prompt_tokens.end());
  offset.push_back(static_cast<std::int64_t>(tokens.size()));
}

std::int64_t SampleRows::num_prompts() const {
  return num_samples == 0 ? 0 : static_cast<std::int64_t>(length.size()) / num_samples;
}

std::span<const std::int32_t> SampleRows::tokens_of(std::int64_t row, std::int64_t sample) const {
  const std::size_t at = index(row * num_samples + sample);
  return std::span(tokens).subspan(at * index(max_new_tokens), index(length[at]));
}

void validate(const SampleBlock& block, std::span<const std::int64_t> eos_ids, const std::string& where,
              SampleParts parts) {
  validate_prompts(block.prompts, where);
  if (parts != SampleParts::without_samples) validate_samples(block.samples, block.num_prompts(), eos_ids, where);
  const std::size_t m = index(block.samples.num_samples);
  for (const auto& [name, values] : block.rewards) {
    require(values.size() == block.prompts.id.size() * m, "{}: reward '{}' has another size than the samples", where,
            name);
    for (std::size_t i = 0; i < values.size(); ++i)
      require(std::isfinite(values[i]), "{}: reward '{}' of sample {} of row {} is {}", where, name, i % m, i / m,
              values[i]);
  }
  if (parts == SampleParts::without_samples) return;
  validate_prefixes(block, where);
  validate_trunk(block, where);
}

std::vector<std::int64_t> trunk_offsets(const SampleRows& samples) {
  std::vector<std::int64_t> offset = {0};
  for (const std::int32_t length : samples.length) offset.push_back(offset.back() + length - 1);
  return offset;
}

void append(SampleBlock& all, const SampleBlock& more) {
  if (all.num_prompts() == 0) {
    all = more;
    return;
  }
  check(all.samples.num_samples == more.samples.num_samples &&
            all.samples.max_new_tokens == more.samples.max_new_tokens && all.rewards.size() == more.rewards.size() &&
            all.prefixes.every == more.prefixes.every && all.prefixes.samples == more.prefixes.samples &&
            all.trunk.block == more.trunk.block && all.trunk.width == more.trunk.width,
        "only blocks of one kind are joined");
  const std::int64_t shift = all.prompts.offset.back();
  extend(all.prompts.id, more.prompts.id);
  extend(all.prompts.text_sha256, more.prompts.text_sha256);
  extend(all.prompts.text, more.prompts.text);
  extend(all.prompts.tokens, more.prompts.tokens);
  for (std::size_t i = 1; i < more.prompts.offset.size(); ++i)
    all.prompts.offset.push_back(more.prompts.offset[i] + shift);
  extend(all.samples.tokens, more.samples.tokens);
  extend(all.samples.length, more.samples.length);
  extend(all.samples.finished, more.samples.finished);
  extend(all.samples.logp_reference, more.samples.logp_reference);
  for (auto& [name, values] : all.rewards) extend(values, more.rewards.at(name));
  extend(all.prefixes.reward, more.prefixes.reward);
  extend(all.prefixes.logp_reference, more.prefixes.logp_reference);
  extend(all.trunk.prompt, more.trunk.prompt);
  extend(all.trunk.samples, more.trunk.samples);
}

SampleBlock first_samples(const SampleBlock& block, std::int64_t m) {
  const std::int64_t of = block.samples.num_samples;
  require(m >= 1 && m <= of, "the first {} samples were asked for; there are {} a prompt", m, of);
  SampleBlock kept;
  kept.prompts = block.prompts;
  kept.samples.num_samples = m;
  kept.samples.max_new_tokens = block.samples.max_new_tokens;
  kept.samples.tokens = first_of_each(block.samples.tokens, of, m, block.samples.max_new_tokens);
  kept.samples.length = first_of_each(block.samples.length, of, m, 1);
  kept.samples.finished = first_of_each(block.samples.finished, of, m, 1);
  kept.samples.logp_reference = first_of_each(block.samples.logp_reference, of, m, 1);
  for (const auto& [name, values] : block.rewards) kept.rewards[name] = first_of_each(values, of, m, 1);
  const std::int64_t cuts = block.prefixes.num_cuts(block.samples.max_new_tokens);
  const std::int64_t s = block.prefixes.samples, fewer = std::min(s, m);
  kept.prefixes = {.every = block.prefixes.every,
                   .samples = fewer,
                   .reward = first_of_each(block.prefixes.reward, s, fewer, cuts),
                   .logp_reference = first_of_each(block.prefixes.logp_reference, s, fewer, cuts)};
  kept.trunk = {.block = block.trunk.block, .width = block.trunk.width, .prompt = block.trunk.prompt};
  const std::vector<std::int64_t> offset = trunk_offsets(block.samples);
  for (std::int64_t first = 0; !block.trunk.samples.empty() && first < std::ssize(block.samples.length); first += of)
    kept.trunk.samples.insert(kept.trunk.samples.end(),
                              block.trunk.samples.begin() + offset[index(first)] * block.trunk.width,
                              block.trunk.samples.begin() + offset[index(first + m)] * block.trunk.width);
  return kept;
}

void write_sample_block(H5Group& root, const SampleBlock& block) {
  const std::int64_t p = block.num_prompts(), m = block.samples.num_samples, t = block.samples.max_new_tokens;
  root.write("prompt/id", {p}, block.prompts.id);
  root.write("prompt/text_sha256", block.prompts.text_sha256);
  root.write("prompt/text", block.prompts.text);
  root.write("prompt/tokens", {block.prompts.offset.back()}, block.prompts.tokens);
  root.write("prompt/offset", {p + 1}, block.prompts.offset);
  root.write("sample/tokens", {p, m, t}, block.samples.tokens);
  root.write("sample/length", {p, m}, block.samples.length);
  root.write("sample/finished", {p, m}, block.samples.finished);
  root.write("sample/logp_reference", {p, m}, block.samples.logp_reference);
  for (const auto& [name, values] : block.rewards) root.write("reward/" + name + "/value", {p, m}, values);
  if (block.prefixes.every > 0) {
    root.write_attribute("prefix_every", block.prefixes.every);
    const std::int64_t cuts = block.prefixes.num_cuts(t), s = block.prefixes.samples;
    if (s < m) root.write_attribute("prefix_samples", s);
    root.write("prefix/reward", {p, s, cuts}, block.prefixes.reward);
    root.write("prefix/logp_reference", {p, s, cuts}, block.prefixes.logp_reference);
  }
  if (block.trunk.block > 0) {
    const std::int64_t width = block.trunk.width;
    root.write_attribute("trunk_block", block.trunk.block);
    root.write("trunk/prompt", {block.prompts.offset.back(), width}, block.trunk.prompt);
    root.write("trunk/sample", {std::ssize(block.trunk.samples) / width, width}, block.trunk.samples);
  }
}

SampleBlock read_sample_block(const H5Group& root, SampleParts parts) {
  SampleBlock block;
  block.prompts.id = root.read<std::int64_t>("prompt/id", {kAnySize});
  const std::int64_t p = block.num_prompts();
  block.prompts.text_sha256 = root.read_text("prompt/text_sha256", p);
  block.prompts.text = root.read_text("prompt/text", p);
  block.prompts.tokens = root.read<std::int32_t>("prompt/tokens", {kAnySize});
  block.prompts.offset = root.read<std::int64_t>("prompt/offset", {p + 1});
  const H5Dataset tokens = root.dataset("sample/tokens", H5Type::int32, {p, kAnySize, kAnySize});
  const std::int64_t m = block.samples.num_samples = tokens.shape()[1];
  block.samples.max_new_tokens = tokens.shape()[2];
  if (parts != SampleParts::without_samples) {
    block.samples.tokens = tokens.read<std::int32_t>();
    block.samples.length = root.read<std::int32_t>("sample/length", {p, m});
    block.samples.finished = root.read<std::uint8_t>("sample/finished", {p, m});
    block.samples.logp_reference = root.read<float>("sample/logp_reference", {p, m});
  }
  for (const std::string& name : root.group("reward").members())
    block.rewards[name] = root.read<float>("reward/" + name + "/value", {p, m});
  if (parts != SampleParts::without_samples && root.has_attribute("prefix_every")) {
    block.prefixes.every = root.attribute<std::int64_t>("prefix_every");
    const std::int64_t cuts = block.prefixes.num_cuts(block.samples.max_new_tokens);
    const H5Dataset rewards = root.dataset("prefix/reward", H5Type::float32, {p, kAnySize, cuts});
    block.prefixes.samples = rewards.shape()[1];
    block.prefixes.reward = rewards.read<float>();
    block.prefixes.logp_reference = root.read<float>("prefix/logp_reference", {p, block.prefixes.samples, cuts});
  }
  if (parts == SampleParts::with_trunk && root.has_attribute("trunk_block")) {
    block.trunk.block = root.attribute<std::int64_t>("trunk_block");
    const H5Dataset rows = root.dataset("trunk/sample", H5Type::float32, {kAnySize, kAnySize});
    block.trunk.width = rows.shape()[1];
    block.trunk.samples = rows.read<float>();
    block.trunk.prompt = root.read<float>("trunk/prompt", {block.prompts.offset.back(), block.trunk.width});
  }
  return block;
}

}  // namespace vbon
