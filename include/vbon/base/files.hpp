// Files that another rank or a later run reads: written beside their name, synced, renamed, the folder synced. A reader
// sees the old file or the new one, never a part. Failures of output are EnvironmentError (exit 74), of input
// UserError.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace vbon {

namespace fs = std::filesystem;

std::string read_file(const fs::path& path, std::uint64_t max_bytes = std::uint64_t{1} << 30);
void make_folders(const fs::path& path);

// `.name.tmp` beside `path`: where content goes before commit_file() gives it its name.
fs::path temporary_name(const fs::path& path);
void sync_file(const fs::path& path);
void sync_folder(const fs::path& folder);
// fsync(temporary), rename to `path`, fsync the folder. The temporary must be closed.
void commit_file(const fs::path& temporary, const fs::path& path);
// Writes `content` under `path` by that protocol.
void write_file_atomically(const fs::path& path, std::string_view content);
// The same where other processes, here or on other machines, may be writing the same content at the same time.
void write_shared_file_atomically(const fs::path& path, std::string_view content);

// Calls `look` with growing pauses until it returns true; false: it did not within `seconds`. For files that another
// machine has committed: a network file system may show them late, and asks its server again when their folder is
// opened.
bool look_until(const fs::path& folder, double seconds, const std::function<bool()>& look);

// One append-only text file: each line goes out in one write() and is on disk when append() returns.
class LineAppender {
 public:
  explicit LineAppender(const fs::path& path);
  ~LineAppender();
  LineAppender(const LineAppender&) = delete;
  LineAppender& operator=(const LineAppender&) = delete;
  void append(std::string_view line);  // without its newline

 private:
  fs::path path_;
  int fd_ = -1;
};

// The complete lines of a text file; a last line without newline (a torn append) is left out.
std::vector<std::string> read_complete_lines(const fs::path& path);

// Calls `line(number from 1, text)` for each line of a UTF-8 text file; strips "\r" and a leading byte order mark.
void for_each_line(const fs::path& path, const std::function<void(std::int64_t, std::string_view)>& line);

std::string utc_now();  // 2026-01-31T12:00:00Z

}  // namespace vbon
