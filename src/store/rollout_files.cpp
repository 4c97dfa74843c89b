#include "vbon/store/rollout_files.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <optional>

#include "store/named_files.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/log.hpp"
#include "vbon/store/h5_commit.hpp"

namespace vbon {
namespace {

std::string step_name(std::int64_t step) { return fmt::format("step-{:08}.h5", step); }
std::string chunk_name(RolloutStage stage, std::int64_t step, std::int64_t chunk) {
  return fmt::format("step-{:08}.chunk-{:05}.{}.h5", step, chunk, name_of(stage));
}

struct Name {
  bool temporary = false;
  std::int64_t step = 0;
  bool is_chunk = false;
};

// What a file name of ours says; nullopt for all others. A name counts only if writing it again gives the same name.
std::optional<Name> parse_name(std::string name) {
  Name parsed;
  if (name.starts_with(".") && name.ends_with(".tmp")) {
    parsed.temporary = true;
    name = name.substr(1, name.size() - 5);
  }
  long long step = -1, chunk = -1;
  if (std::sscanf(name.c_str(), "step-%18lld", &step) != 1 || step < 0) return std::nullopt;
  parsed.step = step;
  if (name == step_name(step)) return parsed;
  parsed.is_chunk = true;
  const std::size_t at = name.find(".chunk-");
  if (at == std::string::npos || std::sscanf(name.c_str() + at, ".chunk-%18lld", &chunk) != 1 || chunk < 0)
    return std::nullopt;
  for (const RolloutStage stage : {RolloutStage::sampled, RolloutStage::scored})
    if (name == chunk_name(stage, step, chunk)) return parsed;
  return std::nullopt;
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    names.push_back(at->path().filename().string());
  if (error && error != std::errc::no_such_file_or_directory) throw_input_error(error.value(), "list", folder.string());
  std::sort(names.begin(), names.end());
  return names;
}

// The checksum that an earlier attempt's file carries, "" when it carries none that can be read.
std::string content_of_earlier(const fs::path& path) {
  try {
    return is_sound_h5(path) ? H5File::open(path).attribute<std::string>("content_sha256") : "";
  } catch (const UserError&) {
    return "";
  }
}

}  // namespace

fs::path RolloutFiles::chunk_path(RolloutStage stage, std::int64_t step, std::int64_t chunk) const {
  return folder_ / chunk_name(stage, step, chunk);
}

fs::path RolloutFiles::step_path(std::int64_t step) const { return folder_ / step_name(step); }

std::string RolloutFiles::write_chunk(RolloutStage stage, const RolloutHeader& header,
                                      const RolloutBatch& batch) const {
  check(stage != RolloutStage::learned && header.chunk >= 0 && header.chunk < header.num_chunks,
        "a chunk has its number");
  return write_rollouts(chunk_path(stage, header.step, header.chunk), stage, header, batch);
}

RolloutBatch RolloutFiles::read_chunk(RolloutStage stage, std::int64_t step, std::int64_t chunk,
                                      const std::string& content_sha256) const {
  const fs::path path = chunk_path(stage, step, chunk);
  Rollouts rollouts;
  std::string problem;
  const auto look = [&] {
    try {
      rollouts = read_rollouts(path, stage);
      require(
          rollouts.header.step == step && rollouts.header.chunk == chunk && rollouts.content_sha256 == content_sha256,
          "'{}' is not the chunk that was announced", path.string());
      return true;
    } catch (const UserError& error) {
      problem = error.what();
    } catch (const EnvironmentError& error) {  // also a stale handle of a network file system
      problem = error.what();
    }
    return false;
  };
  const auto start = std::chrono::steady_clock::now();
  const bool found = look_until(folder_, wait_s_, look);
  const double waited_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  // Another rank wrote it a moment ago: whatever is wrong, the user did not do it.
  if (!found)
    throw EnvironmentError(
        "a chunk of step {} cannot be read: {} (looked for {:.2g} s, see cluster.file_wait_s); run the same command "
        "again: the step is drawn again",
        step, problem, waited_s);
  if (!problem.empty()) log::info("'{}' could be read {:.2g} s after it was announced", path.string(), waited_s);
  return std::move(rollouts.batch);
}

std::string RolloutFiles::write_step(const RolloutHeader& header, const RolloutBatch& batch) const {
  const fs::path path = step_path(header.step);
  const std::string earlier = content_of_earlier(path);
  const std::string content = write_rollouts(path, RolloutStage::learned, header, batch);
  if (!earlier.empty() && earlier != content)
    log::warn("the rollouts of step {} differ from those that an earlier attempt drew", header.step);
  for (std::int64_t chunk = 0; chunk < header.num_chunks; ++chunk)
    for (const RolloutStage stage : {RolloutStage::sampled, RolloutStage::scored})
      remove_ours(chunk_path(stage, header.step, chunk));
  if (keep_.last > 0)
    for (const std::int64_t step : steps())
      if (step <= header.step - keep_.last) remove_ours(step_path(step));
  return content;
}

std::vector<std::int64_t> RolloutFiles::steps() const {
  std::vector<std::int64_t> found;
  for (const std::string& name : names_in(folder_))
    if (const auto parsed = parse_name(name); parsed && !parsed->temporary && !parsed->is_chunk)
      found.push_back(parsed->step);
  std::sort(found.begin(), found.end());
  return found;
}

void RolloutFiles::clean() const {
  for (const std::string& name : names_in(folder_))
    if (const auto parsed = parse_name(name); parsed && (parsed->temporary || parsed->is_chunk))
      remove_ours(folder_ / name);
}

std::vector<std::string> RolloutFiles::unknown_files() const {
  std::vector<std::string> unknown;
  for (std::string& name : names_in(folder_))
    if (!parse_name(name)) unknown.push_back(std::move(name));
  return unknown;
}

}  // namespace vbon
