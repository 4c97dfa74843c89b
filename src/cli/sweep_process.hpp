// Another process, for as long as it runs: the ranks of one run of a sweep.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace vbon::cli {

// This program, as it was started.
std::filesystem::path this_program();

// jobs/ of the checkout that the program was built in; empty: it has been taken elsewhere.
std::filesystem::path jobs_folder(const std::filesystem::path& program);

// Runs `words` (searched in PATH, no shell) with its output appended to `log` and waits. A signal that asks this
// process to stop is passed on. Returns the exit code, 128 + n after signal n. EnvironmentError where it cannot be
// started.
int run_process(const std::vector<std::string>& words, const std::filesystem::path& log);

}  // namespace vbon::cli
