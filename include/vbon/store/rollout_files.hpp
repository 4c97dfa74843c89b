// The folder `rollouts/` of a run: chunks come and go while a step is under way, one file a step stays.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "vbon/base/fields.hpp"
#include "vbon/store/keep.hpp"
#include "vbon/store/rollouts.hpp"

namespace vbon {

struct RolloutsConfig {
  Keep keep = Keep::all();
  bool carry_trunk = false;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.keep, {.name = "keep", .help = "which steps' rollouts stay on disk: all | last K"});
    v(c.carry_trunk,
      {.name = "carry_trunk",
       .help = "samplers hand what enters the first trained layer to the learners, who then need not run the frozen "
               "layers again; pays where processors are slow and prompts short (4 bytes times width times tokens in "
               "files that a step removes)"});
  }
};

class RolloutFiles {
 public:
  // `wait_s`: how long a reader looks for a chunk that it was told of, where the file system shows files late.
  explicit RolloutFiles(fs::path folder, Keep keep = Keep::all(), double wait_s = 0)
      : folder_(std::move(folder)), keep_(keep), wait_s_(wait_s) {}

  const fs::path& folder() const { return folder_; }
  fs::path chunk_path(RolloutStage stage, std::int64_t step, std::int64_t chunk) const;
  fs::path step_path(std::int64_t step) const;

  // Sampled or scored: committed when the call returns, so that the reader may be told. Returns the content's SHA-256,
  // which the message carries and the reader checks: EnvironmentError when another file, or none that is whole, is
  // there, and goes on to be for `wait_s`.
  std::string write_chunk(RolloutStage stage, const RolloutHeader& header, const RolloutBatch& batch) const;
  RolloutBatch read_chunk(RolloutStage stage, std::int64_t step, std::int64_t chunk,
                          const std::string& content_sha256) const;

  // Commits a finished step, removes its chunks, then the steps that `keep` lets go. Warns when an earlier attempt drew
  // this step differently. Returns the content's SHA-256.
  std::string write_step(const RolloutHeader& header, const RolloutBatch& batch) const;
  Rollouts read_step(std::int64_t step) const { return read_rollouts(step_path(step), RolloutStage::learned); }
  std::vector<std::int64_t> steps() const;  // ascending

  // Removes what an unfinished step left: chunks and temporaries of ours. One process calls it before anybody writes.
  void clean() const;
  std::vector<std::string> unknown_files() const;  // names in the folder that are none of ours

 private:
  fs::path folder_;
  Keep keep_;
  double wait_s_ = 0;
};

}  // namespace vbon
