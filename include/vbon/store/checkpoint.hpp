// checkpoints/step-%08d/: parts (policy/..., state/...) that ranks write, and manifest.json, written last, with the
// size and SHA-256 of each. A folder without a manifest that fits does not count.
//
// begin() writes plan.json first: the names of all files to come. What may be deleted later is exactly what a plan or a
// manifest names; anything else in the folders is left and named in a warning.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "vbon/base/fields.hpp"
#include "vbon/store/keep.hpp"

namespace vbon {

namespace fs = std::filesystem;

struct CheckpointConfig {
  int every = 10;
  Keep keep = Keep::last_of(2);
  double before_end_s = 300;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.every,
      {.name = "every", .help = "steps between checkpoints; 0: only at the end and on signals", .unit = "steps"});
    v(c.keep, {.name = "keep", .help = "which checkpoints stay beside the best and the final one: all | last K"});
    v(c.before_end_s,
      {.name = "before_end",
       .help = "stop with a checkpoint when the allocation (Slurm's, or VBON_END_TIME in seconds since 1970) ends so "
               "soon, the longest step so far added; `vbon pool` does, too; 0: on signals only",
       .unit = "s"});
  }
};

struct CheckpointPart {
  std::string name;  // "policy/model.safetensors": relative, plain
  std::uint64_t bytes = 0;
  std::string sha256;
  bool operator==(const CheckpointPart&) const = default;
};

struct Manifest {
  std::int64_t step = 0;
  std::string created_utc;  // empty: the time of writing
  std::string run_id;
  std::int64_t attempt = 1;
  std::string config_sha256;  // of the keys that may not change on resume
  std::int64_t world_size = 1;
  std::map<std::string, std::string> environment;  // CPU type, threads a rank, library versions …: compared on resume
  std::map<std::string, double> metrics;           // by which the best checkpoint is chosen
  std::vector<CheckpointPart> parts;               // filled by commit()
};

struct Checkpoint {
  fs::path folder;
  Manifest manifest;
};

// SHA-256 of a checkpoint's parts ("NAME SHA-256\n" in name order): equal for equal checkpoints of any attempt.
std::string parts_sha256(const Manifest& manifest);
// Reads the manifest and compares every part with it; UserError naming what does not fit.
Checkpoint verify_checkpoint(const fs::path& step_folder);
// One that another machine has seen: waits `seconds` at most until its manifest is shown here.
void await_checkpoint(const fs::path& step_folder, double seconds);

class CheckpointFiles {
 public:
  explicit CheckpointFiles(fs::path folder, Keep keep = Keep::all()) : folder_(std::move(folder)), keep_(keep) {}

  const fs::path& folder() const { return folder_; }
  fs::path step_folder(std::int64_t step) const;

  // Makes room for a checkpoint: what an earlier attempt left of this step goes (a valid one is never written again:
  // a bug), plan and subfolders are there when it returns. One process calls it, before any rank writes its part into
  // the returned folder.
  fs::path begin(std::int64_t step, std::span<const std::string> part_names) const;
  // All parts are written: syncs and hashes them, writes the manifest, verifies the whole. One process.
  Checkpoint commit(Manifest manifest) const;
  // The newest checkpoint that verifies; `skipped` gets a line for every newer one that does not.
  std::optional<Checkpoint> latest(std::vector<std::string>& skipped) const;
  std::vector<std::int64_t> steps() const;  // with a manifest (valid or not), ascending
  // Whether the step's checkpoint is there and verifies.
  bool is_valid(std::int64_t step) const;
  // Deletes all but the last K (by `keep`) of those up to `newest` and `protected_steps` (best, final). To be called
  // after commit(). A later one is of an earlier attempt, and damaged: it keeps none from its place, and waits for its
  // step.
  void retain(const std::set<std::int64_t>& protected_steps, std::int64_t newest) const;
  // Deletes folders without a manifest as far as their plan names them. At start, before anybody writes.
  void clean() const;

 private:
  void remove_step(const fs::path& step_folder) const;

  fs::path folder_;
  Keep keep_;
};

}  // namespace vbon
