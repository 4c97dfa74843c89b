#include "vbon/store/checkpoint.hpp"

#include <algorithm>
#include <cstdio>
#include <functional>

#include "store/manifest.hpp"
#include "store/named_files.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/sha256.hpp"
#include "vbon/base/words.hpp"

namespace vbon {
namespace {

constexpr const char* kManifest = "manifest.json";
constexpr const char* kPlan = "plan.json";

std::string step_name(std::int64_t step) { return fmt::format("step-{:08}", step); }

// The step of a folder name of ours; nullopt for all others.
std::optional<std::int64_t> step_of(const std::string& name) {
  long long step = -1;
  if (std::sscanf(name.c_str(), "step-%18lld", &step) != 1 || step < 0 || name != step_name(step)) return std::nullopt;
  return step;
}

std::vector<std::int64_t> step_folders(const fs::path& folder) {
  std::vector<std::int64_t> steps;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    if (const auto step = step_of(at->path().filename().string()); step && at->is_directory(error))
      steps.push_back(*step);
  if (error && error != std::errc::no_such_file_or_directory) throw_input_error(error.value(), "list", folder.string());
  std::sort(steps.begin(), steps.end());
  return steps;
}

// The folders below a step's that parts lie in, deepest first.
std::vector<std::string> subfolders(std::span<const std::string> part_names) {
  std::set<std::string> found;
  for (const std::string& name : part_names)
    for (fs::path parent = fs::path(name).parent_path(); !parent.empty(); parent = parent.parent_path())
      found.insert(parent.string());
  return {found.rbegin(), found.rend()};
}

// What the plan and the manifest of a step say that we wrote; an unreadable one says nothing.
std::vector<std::string> named_parts(const fs::path& step_folder) {
  std::set<std::string> names;
  const auto add_plan = [&] {
    for (std::string& name : read_plan(step_folder / kPlan)) names.insert(std::move(name));
  };
  const auto add_manifest = [&] {
    for (const CheckpointPart& part : read_manifest(step_folder / kManifest).parts) names.insert(part.name);
  };
  for (const std::function<void()>& add : {std::function<void()>(add_plan), std::function<void()>(add_manifest)}) {
    try {
      add();
    } catch (const UserError& error) {
      log::debug("{}", error.what());
    }
  }
  return {names.begin(), names.end()};
}

}  // namespace

std::string parts_sha256(const Manifest& manifest) {
  std::vector<CheckpointPart> parts = manifest.parts;
  std::sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  Sha256 hash;
  for (const CheckpointPart& part : parts) hash.update(part.name + " " + part.sha256 + "\n");
  return hash.hex();
}

void await_checkpoint(const fs::path& step_folder, double seconds) {
  look_until(step_folder.parent_path(), seconds, [&] { return fs::exists(step_folder / kManifest); });
}

Checkpoint verify_checkpoint(const fs::path& step_folder) {
  require(fs::exists(step_folder / kManifest), "'{}' is no finished checkpoint: it has no {}", step_folder.string(),
          kManifest);
  Checkpoint checkpoint{step_folder, read_manifest(step_folder / kManifest)};
  const std::string name = fs::path(step_folder / "").parent_path().filename().string();
  require(!step_of(name) || step_of(name) == checkpoint.manifest.step, "the manifest of '{}' is that of step {}",
          step_folder.string(), checkpoint.manifest.step);
  for (const CheckpointPart& part : checkpoint.manifest.parts) {
    const fs::path path = step_folder / part.name;
    std::error_code error;
    const std::uintmax_t bytes = fs::file_size(path, error);
    // An error of the machine is no damage: the run stops, and finds the checkpoint when it can be read again.
    if (error && error != std::errc::no_such_file_or_directory && error != std::errc::not_a_directory)
      throw_input_error(error.value(), "look at", path.string());
    require(!error, "'{}' is missing", path.string());
    require(bytes == part.bytes, "'{}' has {} bytes where the manifest says {}; it is truncated or changed",
            path.string(), bytes, part.bytes);
    require(sha256_file(path) == part.sha256, "'{}' is not what the manifest says: it was changed or damaged",
            path.string());
  }
  return checkpoint;
}

fs::path CheckpointFiles::step_folder(std::int64_t step) const { return folder_ / step_name(step); }

fs::path CheckpointFiles::begin(std::int64_t step, std::span<const std::string> part_names) const {
  check(!part_names.empty() && std::all_of(part_names.begin(), part_names.end(), is_part_name),
        "parts have plain names");
  const fs::path folder = step_folder(step);
  check(!is_valid(step), "a finished checkpoint is not written again");
  if (fs::exists(folder)) remove_step(folder);
  make_folders(folder);
  write_file_atomically(folder / kPlan, plan_text(part_names));
  for (const std::string& name : subfolders(part_names)) make_folders(folder / name);
  return folder;
}

Checkpoint CheckpointFiles::commit(Manifest manifest) const {
  const fs::path folder = step_folder(manifest.step);
  std::vector<std::string> names = read_plan(folder / kPlan);
  std::sort(names.begin(), names.end());
  manifest.parts.clear();
  for (const std::string& name : names) {
    const fs::path path = folder / name;
    check(fs::exists(path), "every planned part of a checkpoint is written");
    sync_file(path);
    manifest.parts.push_back({name, fs::file_size(path), sha256_file(path)});
  }
  for (const std::string& name : subfolders(names)) sync_folder(folder / name);
  if (manifest.created_utc.empty()) manifest.created_utc = utc_now();
  write_file_atomically(folder / kManifest, manifest_text(manifest));
  sync_folder(folder_);
  return verify_checkpoint(folder);
}

std::vector<std::int64_t> CheckpointFiles::steps() const {
  std::vector<std::int64_t> finished;
  for (const std::int64_t step : step_folders(folder_))
    if (fs::exists(step_folder(step) / kManifest)) finished.push_back(step);
  return finished;
}

std::optional<Checkpoint> CheckpointFiles::latest(std::vector<std::string>& skipped) const {
  const std::vector<std::int64_t> all = step_folders(folder_);
  for (auto step = all.rbegin(); step != all.rend(); ++step) {
    try {
      return verify_checkpoint(step_folder(*step));
    } catch (const UserError& error) {
      skipped.push_back(error.what());
    }
  }
  return std::nullopt;
}

bool CheckpointFiles::is_valid(std::int64_t step) const {
  try {
    verify_checkpoint(step_folder(step));
    return true;
  } catch (const UserError&) {
    return false;
  }
}

void CheckpointFiles::retain(const std::set<std::int64_t>& protected_steps, std::int64_t newest) const {
  if (keep_.last == 0) return;
  std::vector<std::int64_t> all = steps();
  std::erase_if(all, [&](std::int64_t step) { return step > newest; });
  const auto kept = static_cast<std::size_t>(keep_.last);
  if (all.size() <= kept) return;
  all.resize(all.size() - kept);
  for (const std::int64_t step : all)
    if (!protected_steps.contains(step)) remove_step(step_folder(step));
}

void CheckpointFiles::clean() const {
  for (const std::int64_t step : step_folders(folder_))
    if (!fs::exists(step_folder(step) / kManifest)) {
      log::info("the checkpoint of step {} was never finished: its parts are removed", step);
      remove_step(step_folder(step));
    }
}

void CheckpointFiles::remove_step(const fs::path& step_folder) const {
  const std::vector<std::string> names = named_parts(step_folder);
  // The manifest first: a half-removed checkpoint must not count. The plan last: removing may be interrupted, too.
  remove_ours(step_folder / kManifest);
  remove_ours(temporary_name(step_folder / kManifest));
  sync_folder(step_folder);
  for (const std::string& name : names) {
    remove_ours(step_folder / name);
    remove_ours(temporary_name(step_folder / name));
  }
  for (const std::string& name : subfolders(names)) remove_folder_if_empty(step_folder / name);
  remove_ours(temporary_name(step_folder / kPlan));
  remove_ours(step_folder / kPlan);
  remove_folder_if_empty(step_folder);
}

}  // namespace vbon
