#include "store/named_files.hpp"

#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "vbon/base/error.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/words.hpp"

namespace vbon {

void remove_ours(const fs::path& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT && errno != ENOTDIR && errno != EISDIR)
    throw_output_error(errno, "remove", path.string());
}

void remove_folder_if_empty(const fs::path& folder) {
  std::error_code error;
  std::vector<std::string> left;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    left.push_back(at->path().filename().string());
  if (error) return;
  if (!left.empty()) {
    log::warn("'{}' stays: it holds what this program did not write ({})", folder.string(), joined(left));
    return;
  }
  if (::rmdir(folder.c_str()) != 0 && errno != ENOENT) throw_output_error(errno, "remove", folder.string());
}

}  // namespace vbon
