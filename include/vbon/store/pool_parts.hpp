// A pool in the making: the work folder `NAME.parts/` beside `NAME` with one committed file per chunk of prompts, so
// that a killed job continues and several jobs share the work. Chunks are whole prompts, a function of the
// configuration alone; merging them gives the same pool whoever drew which one, in what order and however often it was
// interrupted.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "vbon/store/pool.hpp"

namespace vbon {

inline constexpr std::string_view kPoolPartFormat = "vbon.pool_part";

class PoolParts {
 public:
  // `header` decides what belongs to this pool: parts made with another reference, tokenizer, reward, evaluator, prompt
  // set, seed, temperature, size, rounding or dtype are foreign. Touches nothing on disk.
  PoolParts(fs::path pool, PoolHeader header, std::int64_t num_prompts, std::int64_t prompts_per_chunk);

  const fs::path& folder() const { return folder_; }
  std::int64_t num_chunks() const;
  std::int64_t first_prompt(std::int64_t chunk) const;
  std::int64_t prompts_in(std::int64_t chunk) const;

  // The chunks of one shard (those with chunk % num_shards == shard) still to be drawn, ascending. UserError naming a
  // foreign part; a damaged one and left-over temporaries of the shard's are removed (with a warning) and drawn again.
  // One process of a shard calls it before any of them writes; shards do not touch each other's files.
  std::vector<std::int64_t> missing(std::int64_t shard = 0, std::int64_t num_shards = 1) const;
  // Whether every chunk of every shard is there and sound. Touches nothing: other shards may be writing.
  bool complete() const;
  // Commits one chunk's rows; any process, each chunk one at a time. `seconds`: spent on it.
  void write(std::int64_t chunk, const SampleBlock& rows, double seconds) const;
  // Whether every part is there; waits `seconds` at most until they are shown here.
  bool are_there(double seconds) const;
  // After all ranks have written theirs: waits until every part is shown here, `seconds` at most.
  void await_all(double seconds) const;
  // Writes the pool from all parts; its `seconds` is their sum. UserError naming what is missing or foreign.
  std::string merge() const;
  // Removes the parts and their folder; leaves and names what we did not write.
  void remove() const;

 private:
  std::int64_t first_absent(double seconds) const;  // num_chunks(): none; looks for `seconds` at most
  fs::path part_path(std::int64_t chunk) const;
  SampleBlock read_part(std::int64_t chunk, double& seconds) const;

  fs::path pool_;
  fs::path folder_;
  PoolHeader header_;
  std::int64_t num_prompts_;
  std::int64_t prompts_per_chunk_;
  std::string key_;  // SHA-256 of all that decides the content
};

}  // namespace vbon
