// A folder that appears as a whole or not at all: its files are written under another name beside it, which a rename
// then makes its own.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>

namespace vbon {

namespace fs = std::filesystem;

// `write` fills the folder that it is given with files of `names`, and no others. `path` must not exist or be empty.
// What an attempt that was cut short left under these names is removed; UserError when anything else is in the way.
void write_folder_atomically(const fs::path& path, std::span<const std::string> names,
                             const std::function<void(const fs::path&)>& write);

}  // namespace vbon
