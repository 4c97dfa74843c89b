// One file from several pieces of memory by the commit protocol, without joining them first.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace vbon {

// `.name.tmp`, fsync, rename, fsync of the folder. When anything fails (EnvironmentError) the temporary is removed and
// what had the name before is untouched.
void write_bytes_atomically(const std::filesystem::path& path, std::span<const std::span<const std::byte>> pieces);

}  // namespace vbon
