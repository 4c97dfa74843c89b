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

// Whether `folder` holds what is to be made, by its record: a JSON object whose `key` stands for everything that
// decides the content. False: nothing is there. UserError where anything else is; the message names its maker (`vbon
// sft`), what it was made from, and the configuration's key of the folder.
struct FolderRecord {
  std::string name;      // of the file
  std::string command;   // "vbon sft"
  std::string inputs;    // "another base model, another text or another configuration"
  std::string path_key;  // "model.reference"
};
bool already_made(const fs::path& folder, const FolderRecord& record, const std::string& key);

}  // namespace vbon
