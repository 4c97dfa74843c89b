// Removing files that we wrote and can name, and nothing else.
#pragma once

#include <filesystem>

namespace vbon {

namespace fs = std::filesystem;

// Removes one plain file (or link) if it is there, never a folder; EnvironmentError when it stays.
void remove_ours(const fs::path& path);
// Removes an empty folder; leaves another one and warns, naming what is left in it. Absent: nothing to do.
void remove_folder_if_empty(const fs::path& folder);

}  // namespace vbon
