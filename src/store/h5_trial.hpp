// HDF5's own parser is not safe on damaged files: 1.10.8 crashes, hangs and asks for any amount of memory. A file that
// nobody vouches for is therefore read once by a child process, which may die of it.
#pragma once

#include <filesystem>

namespace vbon {

// Reads all of an HDF5 file in a fork of this process, which is given bounded memory and processor time. UserError when
// that process dies of it, or HDF5 calls any of it damaged; what no schema of ours uses is not looked into.
void try_reading_h5(const std::filesystem::path& path);

}  // namespace vbon
