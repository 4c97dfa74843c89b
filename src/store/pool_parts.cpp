#include "vbon/store/pool_parts.hpp"

#include <algorithm>

#include "store/named_files.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/sha256.hpp"
#include "vbon/base/words.hpp"
#include "vbon/store/h5_commit.hpp"

namespace vbon {
namespace {

std::string key_of(const PoolHeader& header, std::int64_t num_prompts, std::int64_t prompts_per_chunk) {
  const Provenance& made = header.provenance;
  std::string more;
  for (const auto& [name, identity] : header.more_rewards) more += " " + name + "=" + identity;
  return sha256_hex(fmt::format(
      "{}\n",
      fmt::join(
          std::vector<std::string>{
              made.reference_sha256, made.tokenizer_sha256, made.reward_sha256, made.evaluator_sha256,
              made.prompts_sha256, made.start_token, made.dtype, fmt::format("{}", made.seed),
              fmt::format("{}", header.temperature), fmt::format("{}", header.max_new_tokens),
              fmt::format("{}", header.num_samples), fmt::format("{}", fmt::join(header.eos_ids, " ")),
              header.reward_output + more, fmt::format("{}", header.reward_round),
              fmt::format("{} {}", header.prefix_every, header.prefix_samples), fmt::format("{}", header.trunk_block),
              fmt::format("{}", num_prompts), fmt::format("{}", prompts_per_chunk)},
          "\n")));
}

}  // namespace

PoolParts::PoolParts(fs::path pool, PoolHeader header, std::int64_t num_prompts, std::int64_t prompts_per_chunk)
    : pool_(std::move(pool)), folder_(pool_.string() + ".parts"), header_(std::move(header)), num_prompts_(num_prompts),
      prompts_per_chunk_(prompts_per_chunk), key_(key_of(header_, num_prompts, prompts_per_chunk)) {
  check(num_prompts >= 1 && prompts_per_chunk >= 1, "a pool has prompts and chunks have some");
}

std::int64_t PoolParts::num_chunks() const { return (num_prompts_ + prompts_per_chunk_ - 1) / prompts_per_chunk_; }
std::int64_t PoolParts::first_prompt(std::int64_t chunk) const { return chunk * prompts_per_chunk_; }
std::int64_t PoolParts::prompts_in(std::int64_t chunk) const {
  return std::min(prompts_per_chunk_, num_prompts_ - first_prompt(chunk));
}

fs::path PoolParts::part_path(std::int64_t chunk) const { return folder_ / fmt::format("chunk-{:06}.h5", chunk); }

void PoolParts::write(std::int64_t chunk, const SampleBlock& rows, double seconds) const {
  check(chunk >= 0 && chunk < num_chunks() && rows.num_prompts() == prompts_in(chunk), "a chunk has its prompts");
  validate(rows, header_.eos_ids, fmt::format("chunk {} of the pool", chunk));
  make_folders(folder_);
  write_h5_atomically(part_path(chunk), [&](H5File& file) {
    PoolHeader header = header_;
    header.seconds = seconds;
    write_provenance(file, kPoolPartFormat, kPoolSchema, header.provenance);
    write_pool_attributes(file, header);
    file.write_attribute("key", key_);
    file.write_attribute("chunk", chunk);
    write_sample_block(file, rows);
  });
}

SampleBlock PoolParts::read_part(std::int64_t chunk, double& seconds) const {
  const fs::path path = part_path(chunk);
  const H5File file = open_h5(path, kPoolPartFormat, kPoolSchema, H5Trust::ours);
  require(
      file.attribute<std::string>("key") == key_ && file.attribute<std::int64_t>("chunk") == chunk,
      "'{}' belongs to another pool (another reference, reward, prompt set, seed, temperature or size); name another "
      "output, or remove '{}'",
      path.string(), folder_.string());
  SampleBlock rows = read_sample_block(file, SampleParts::with_trunk);
  validate(rows, header_.eos_ids, "'" + path.string() + "'");
  require(rows.num_prompts() == prompts_in(chunk), "'{}' has {} prompts where {} belong", path.string(),
          rows.num_prompts(), prompts_in(chunk));
  seconds = file.attribute<double>("seconds");
  return rows;
}

std::vector<std::int64_t> PoolParts::missing(std::int64_t shard, std::int64_t num_shards) const {
  check(num_shards >= 1 && shard >= 0 && shard < num_shards, "a shard is one of num_shards");
  std::vector<std::int64_t> absent;
  for (std::int64_t chunk = shard; chunk < num_chunks(); chunk += num_shards) {
    const fs::path path = part_path(chunk);
    remove_ours(temporary_name(path));
    if (!fs::exists(path)) {
      absent.push_back(chunk);
      continue;
    }
    if (!is_sound_h5(path)) {
      log::warn("'{}' is damaged; it is removed and drawn again", path.string());
      remove_ours(path);
      absent.push_back(chunk);
      continue;
    }
    double seconds = 0;
    read_part(chunk, seconds);
  }
  return absent;
}

bool PoolParts::complete() const {
  for (std::int64_t chunk = 0; chunk < num_chunks(); ++chunk)
    if (!fs::exists(part_path(chunk)) || !is_sound_h5(part_path(chunk))) return false;
  return true;
}

std::int64_t PoolParts::first_absent(double seconds) const {
  std::int64_t shown = 0;  // chunks below are there
  look_until(folder_, seconds, [&] {
    while (shown < num_chunks() && fs::exists(part_path(shown))) ++shown;
    return shown == num_chunks();
  });
  return shown;
}

bool PoolParts::are_there(double seconds) const { return first_absent(seconds) == num_chunks(); }

void PoolParts::await_all(double seconds) const {
  if (const std::int64_t absent = first_absent(seconds); absent < num_chunks())
    throw EnvironmentError(
        "'{}' was written by another rank and is not there (looked for {:.2g} s, see cluster.file_wait_s); run the "
        "same command again: what is there is kept",
        part_path(absent).string(), seconds);
}

std::string PoolParts::merge() const {
  std::vector<std::string> absent;
  for (std::int64_t chunk = 0; chunk < num_chunks(); ++chunk)
    if (!fs::exists(part_path(chunk))) absent.push_back(fmt::format("{}", chunk));
  require(absent.empty(), "'{}' lacks {} of {} chunks ({}{}); run the shards that draw them first", folder_.string(),
          absent.size(), num_chunks(), joined(std::span(absent).first(std::min<std::size_t>(absent.size(), 10))),
          absent.size() > 10 ? ", …" : "");
  SampleBlock all;
  PoolHeader header = header_;
  header.seconds = 0;
  for (std::int64_t chunk = 0; chunk < num_chunks(); ++chunk) {
    double seconds = 0;
    append(all, read_part(chunk, seconds));
    header.seconds += seconds;
  }
  return write_pool(pool_, header, all);
}

void PoolParts::remove() const {
  for (std::int64_t chunk = 0; chunk < num_chunks(); ++chunk) {
    remove_ours(part_path(chunk));
    remove_ours(temporary_name(part_path(chunk)));
  }
  remove_folder_if_empty(folder_);
}

}  // namespace vbon
