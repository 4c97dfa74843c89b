#include "vbon/store/folder_commit.hpp"

#include <nlohmann/json.hpp>

#include "store/named_files.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/json.hpp"

namespace vbon {
namespace {

void remove_leftover(const fs::path& folder, std::span<const std::string> names) {
  for (const std::string& name : names) {
    remove_ours(folder / name);
    remove_ours(temporary_name(folder / name));
  }
  std::error_code error;
  if (!fs::remove(folder, error) && error)
    throw UserError("'{}' is in the way and holds what this program did not write; remove it", folder.string());
}

}  // namespace

void write_folder_atomically(const fs::path& path, std::span<const std::string> names,
                             const std::function<void(const fs::path&)>& write) {
  const fs::path named = path.has_filename() ? path : path.parent_path(), fresh = temporary_name(named);
  remove_leftover(fresh, names);
  make_folders(fresh);
  write(fresh);
  for (const std::string& name : names)
    check(!fs::exists(temporary_name(fresh / name)), "files are complete before their folder gets its name");
  commit_file(fresh, named);
}

bool already_made(const fs::path& folder, const FolderRecord& record, const std::string& key) {
  using Json = nlohmann::json;
  if (!fs::exists(folder) || (fs::is_directory(folder) && fs::is_empty(folder))) return false;
  require(fs::exists(folder / record.name), "'{}' exists and was not written by `{}`; give another {}", folder.string(),
          record.command, record.path_key);
  const Json made = parse_json(read_file(folder / record.name), "'" + (folder / record.name).string() + "'");
  require(made.is_object() && made.value("key", Json()) == Json(key),
          "'{}' was made from {}; remove it or give another {}", folder.string(), record.inputs, record.path_key);
  return true;
}

}  // namespace vbon
