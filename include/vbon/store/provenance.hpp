// Where a file comes from: the root attributes that every HDF5 file of ours carries, and the comparison of what a file
// was made with to what a command is about to use it with.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "vbon/store/hdf5.hpp"

namespace vbon {

struct Provenance {
  std::string created_utc;  // empty: the time of writing
  std::string vbon_version;
  std::string config;  // resolved YAML: environment references unexpanded, secrets left out
  std::int64_t seed = 0;
  std::string run_id;
  std::int64_t attempt = 1;  // starts of the run so far
  std::string dtype = "float32";
  std::int64_t threads_per_rank = 1;
  std::string device = "cpu";
  std::map<std::string, std::string> library_versions;  // HDF5's own is added
  // What it was made with; empty: does not apply, no attribute.
  std::string reference_sha256, tokenizer_sha256, reward_sha256, evaluator_sha256, prompts_sha256, pool_sha256;
  std::string start_token;  // model.start_token as text, "none" without one; empty: does not apply
  std::string forced;       // mismatches that --force overrode; empty: none
};

void write_provenance(H5Group& root, std::string_view format, std::int64_t schema_version,
                      const Provenance& provenance);
// Attributes that a file of another program lacks stay at their defaults.
Provenance read_provenance(const H5Group& root);

struct Comparison {
  std::string what;      // "temperature"
  std::string expected;  // of the command; empty: not compared
  std::string found;     // in the file
};

// UserError naming every difference with both values. With `force` returns them as text (for `forced`) and warns
// instead; "" when nothing differs. `remedy`: what makes a file that fits ("make the pool again with vbon pool").
std::string check_matches(const fs::path& file, std::span<const Comparison> comparisons, bool force,
                          std::string_view remedy);

}  // namespace vbon
