#include "store/atomic_bytes.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "store/descriptor.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"

namespace vbon {
namespace {

void write_all(int fd, std::span<const std::byte> bytes, const fs::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), std::min(bytes.size(), std::size_t{1} << 30));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw_output_error(errno, "write", path.string());
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

}  // namespace

void write_bytes_atomically(const fs::path& path, std::span<const std::span<const std::byte>> pieces) {
  const fs::path temporary = temporary_name(path);
  try {
    {
      Descriptor file(temporary, O_WRONLY | O_CREAT | O_TRUNC);
      if (file.fd() < 0) throw_output_error(errno, "create", temporary.string());
      for (const std::span<const std::byte> piece : pieces) write_all(file.fd(), piece, temporary);
      if (file.close() != 0) throw_output_error(errno, "close", temporary.string());
    }
    commit_file(temporary, path);
  } catch (...) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw;
  }
}

}  // namespace vbon
