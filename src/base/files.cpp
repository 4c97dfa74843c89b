#include "vbon/base/files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <fstream>
#include <thread>
#include <utility>

#include "vbon/base/error.hpp"
#include "vbon/base/host.hpp"

namespace vbon {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int value() const { return fd_; }
  int close() { return ::close(std::exchange(fd_, -1)); }

 private:
  int fd_;
};

void write_all(int fd, std::string_view content, const fs::path& path) {
  while (!content.empty()) {
    const ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw_output_error(errno, "write", path.string());
    content.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

std::string read_file(const fs::path& path, std::uint64_t max_bytes) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.value() < 0) throw_input_error(errno, "open", path.string());
  struct stat info = {};
  if (::fstat(file.value(), &info) != 0) throw_input_error(errno, "stat", path.string());
  require(!S_ISDIR(info.st_mode), "'{}' is a folder; a file is needed here", path.string());
  require(static_cast<std::uint64_t>(info.st_size) <= max_bytes, "'{}' has {} bytes; at most {} are accepted here",
          path.string(), info.st_size, max_bytes);
  std::string content;
  content.reserve(static_cast<std::size_t>(info.st_size));
  char buffer[1 << 16];
  for (;;) {
    const ssize_t got = ::read(file.value(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_input_error(errno, "read", path.string());
    if (got == 0) break;
    content.append(buffer, static_cast<std::size_t>(got));
    require(content.size() <= max_bytes, "'{}' has more than {} bytes", path.string(), max_bytes);
  }
  return content;
}

void make_folders(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) throw_output_error(error.value(), "create the folder", path.string());
}

fs::path temporary_name(const fs::path& path) { return path.parent_path() / ("." + path.filename().string() + ".tmp"); }

void sync_file(const fs::path& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.value() < 0) throw_output_error(errno, "open", path.string());
  if (::fsync(file.value()) != 0) throw_output_error(errno, "sync", path.string());
}

void sync_folder(const fs::path& folder) {
  const fs::path name = folder.empty() ? fs::path(".") : folder;
  const Descriptor file(::open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (file.value() < 0) throw_output_error(errno, "open the folder", name.string());
  if (::fsync(file.value()) != 0 && errno != EINVAL) throw_output_error(errno, "sync the folder", name.string());
}

void commit_file(const fs::path& temporary, const fs::path& path) {
  sync_file(temporary);
  if (::rename(temporary.c_str(), path.c_str()) != 0) throw_output_error(errno, "rename to", path.string());
  sync_folder(path.parent_path());
}

namespace {

void write_through(const fs::path& temporary, const fs::path& path, std::string_view content) {
  {
    Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (file.value() < 0) throw_output_error(errno, "create", temporary.string());
    write_all(file.value(), content, temporary);
    if (file.close() != 0) throw_output_error(errno, "close", temporary.string());
  }
  commit_file(temporary, path);
}

}  // namespace

void write_file_atomically(const fs::path& path, std::string_view content) {
  write_through(temporary_name(path), path, content);
}

void write_shared_file_atomically(const fs::path& path, std::string_view content) {
  const std::string own_name = fmt::format("{}.{}.{}", path.filename().string(), host_name(), ::getpid());
  write_through(temporary_name(path.parent_path() / own_name), path, content);
}

bool look_until(const fs::path& folder, double seconds, const std::function<bool()>& look) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  for (double pause_s = 0.005;; pause_s = std::min(2 * pause_s, 0.5)) {
    if (look()) return true;
    const double left_s = seconds - std::chrono::duration<double>(Clock::now() - start).count();
    if (left_s <= 0.0) return false;
    std::this_thread::sleep_for(std::chrono::duration<double>(std::min(pause_s, left_s)));
    const Descriptor refresh(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
}

LineAppender::LineAppender(const fs::path& path) : path_(path) {
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd_ < 0) throw_output_error(errno, "open", path.string());
}

LineAppender::~LineAppender() {
  if (fd_ >= 0) ::close(fd_);
}

void LineAppender::append(std::string_view line) {
  std::string text(line);
  text += '\n';
  write_all(fd_, text, path_);
  if (::fdatasync(fd_) != 0) throw_output_error(errno, "sync", path_.string());
}

std::vector<std::string> read_complete_lines(const fs::path& path) {
  const std::string content = read_file(path, std::uint64_t{1} << 36);
  std::vector<std::string> lines;
  std::size_t begin = 0;
  for (std::size_t end = content.find('\n'); end != std::string::npos; end = content.find('\n', begin)) {
    lines.emplace_back(content, begin, end - begin);
    begin = end + 1;
  }
  return lines;
}

void for_each_line(const fs::path& path, const std::function<void(std::int64_t, std::string_view)>& line) {
  if (fs::is_directory(path)) throw UserError("'{}' is a folder; a text file is needed here", path.string());
  std::ifstream input(path, std::ios::binary);
  if (!input) throw_input_error(errno == 0 ? ENOENT : errno, "open", path.string());
  std::string text;
  for (std::int64_t number = 1; std::getline(input, text); ++number) {
    std::string_view view = text;
    if (number == 1 && view.starts_with("\xEF\xBB\xBF")) view.remove_prefix(3);
    if (!view.empty() && view.back() == '\r') view.remove_suffix(1);
    line(number, view);
  }
  if (input.bad()) throw_input_error(EIO, "read", path.string());
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc = {};
  gmtime_r(&now, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
                     utc.tm_hour, utc.tm_min, utc.tm_sec);
}

}  // namespace vbon
