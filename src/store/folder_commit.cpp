#include "vbon/store/folder_commit.hpp"

#include "store/named_files.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"

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

}  // namespace vbon
