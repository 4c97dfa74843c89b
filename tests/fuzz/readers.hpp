// The readers of files that others may have written, each with valid files of its own.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "fuzz/mutate.hpp"

namespace vbon::fuzz {

struct Reader {
  std::string name;
  std::vector<Files> seeds;  // valid, each a folder
  // Reads the folder and uses what it got, as commands do. UserError is a refusal, everything else a fault.
  std::function<void(const std::filesystem::path& folder)> read;
  std::function<void(Files&, Random&)> change = mutate;
  bool refuses = true;  // false: no content is an error; otherwise a reader that takes everything reads nothing
};

// `scratch`: a folder to make the valid files in.
std::vector<Reader> text_readers();                                            // tokenizers, JSON lines, YAML
std::vector<Reader> model_readers(const std::filesystem::path& scratch);       // safetensors, config.json, n-grams …
std::vector<Reader> h5_readers(const std::filesystem::path& scratch);          // pools, rollouts, evaluations, metrics
std::vector<Reader> run_folder_readers(const std::filesystem::path& scratch);  // manifests, metrics, locks, counters

Files files_in(const std::filesystem::path& folder);  // with those of subfolders
void write_files(const std::filesystem::path& folder, const Files& files);

}  // namespace vbon::fuzz
