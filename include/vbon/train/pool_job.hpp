// `vbon pool`: prompts x reference x reward -> pool.h5. Chunks of whole prompts are drawn and scored by any rank of any
// job, each committed as a part; the parts together give one file whoever made them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "vbon/base/error.hpp"
#include "vbon/comm/mpi.hpp"
#include "vbon/train/run_inputs.hpp"
#include "vbon/train/training_run.hpp"

namespace vbon {

enum class PoolOf { train, eval };

struct PoolJob {
  PoolOf which = PoolOf::train;
  std::int64_t shard = 0, num_shards = 1;  // this job draws chunks with chunk % num_shards == shard
  bool merge_only = false;                 // parts of all shards -> pool
};

struct PoolProgress {
  std::int64_t done = 0, total = 0;  // samples of this job, parts of earlier attempts included
  std::int64_t already = 0;          // of those: found on disk
  double mean_reward = 0;            // of this rank's samples so far
};

struct PoolResult {
  ExitCode code = ExitCode::ok;
  bool merged = false;  // the pool is there; else other shards are missing
  std::string content_sha256;
};

// Collective over the world. An existing pool that fits is left as it is (skipped with a note); one that does not fit
// is a UserError.
PoolResult run_pool_job(comm::Communicator& world, const Settings& settings, const RunText& text,
                        RewardPrograms& programs, const PoolJob& job,
                        const std::function<void(const PoolProgress&)>& observer);

}  // namespace vbon
