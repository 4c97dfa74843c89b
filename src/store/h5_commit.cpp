#include "vbon/store/h5_commit.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

#include "store/atomic_bytes.hpp"
#include "store/descriptor.hpp"
#include "store/h5_blocks.hpp"
#include "store/h5_trial.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/sha256.hpp"

namespace vbon {
namespace {

constexpr std::string_view kGuardStart = "vbon: sha256 of the bytes from 512 on: ";
constexpr std::string_view kH5Signature = "\x89HDF\r\n\x1a\n";

// Fills `buffer` from `offset` on as far as the file goes; -1 with errno on failure.
ssize_t read_at(int fd, std::span<char> buffer, std::int64_t offset) {
  std::size_t done = 0;
  while (done < buffer.size()) {
    const ssize_t got =
        ::pread(fd, buffer.data() + done, buffer.size() - done, offset + static_cast<std::int64_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return static_cast<ssize_t>(done);
}

std::string bytes_sha256(int fd, const fs::path& path) {
  Sha256 hash;
  std::vector<char> buffer(std::size_t{1} << 20);
  for (std::int64_t offset = kH5FreeBytes;;) {
    const ssize_t got = read_at(fd, buffer, offset);
    if (got < 0) throw_input_error(errno, "read", path.string());
    if (got == 0) return hash.hex();
    hash.update(std::string_view(buffer.data(), static_cast<std::size_t>(got)));
    offset += got;
  }
}

std::string guard_text(const std::string& sha256) {
  std::string text = std::string(kGuardStart) + sha256;
  text.resize(static_cast<std::size_t>(kH5FreeBytes), '\n');
  return text;
}

// Whether the file carries a guard. A file without must begin as HDF5 files of other programs do; UserError when it
// does not, or when the bytes after the guard are not those it was made for.
bool check_guard(const fs::path& path) {
  const Descriptor file(path, O_RDONLY);
  if (file.fd() < 0) throw_input_error(errno, "open", path.string());
  std::array<char, static_cast<std::size_t>(kH5FreeBytes)> block{};
  const ssize_t got = read_at(file.fd(), block, 0);
  if (got < 0) throw_input_error(errno, "read", path.string());
  const std::string_view found(block.data(), static_cast<std::size_t>(got));
  if (found.starts_with(kH5Signature)) return false;
  require(found.starts_with(kGuardStart), "'{}' is no HDF5 file, or damaged; make it again", path.string());
  require(found == guard_text(bytes_sha256(file.fd(), path)),
          "'{}' is truncated or damaged: its bytes are not those that were written; make it again", path.string());
  return true;
}

void hash_name(Sha256& hash, std::string_view kind, std::string_view name) {
  hash.update(fmt::format("{} {} {}\n", kind, name.size(), name));
}

void hash_attributes(Sha256& hash, const H5Group& group, const std::string& where) {
  for (const std::string& name : group.attribute_names()) {
    if (is_circumstance(name)) continue;
    hash_name(hash, "attribute", where + "@" + name);
    std::visit(
        [&](const auto& value) {
          using T = std::decay_t<decltype(value)>;
          if constexpr (std::is_same_v<T, std::string>) hash_name(hash, "text", value);
          else if constexpr (std::is_same_v<T, std::vector<std::int64_t>>) hash_name(hash, "list", text_of(value));
          else hash.update(std::as_bytes(std::span(&value, 1)));
        },
        group.attribute(name));
  }
}

void hash_values(Sha256& hash, const std::vector<std::string>& texts) {
  for (const std::string& text : texts) hash_name(hash, "text", text);
}
template <H5Number T>
void hash_values(Sha256& hash, std::span<const T> numbers) {
  hash.update(numbers);
}

void hash_dataset(Sha256& hash, const H5Dataset& dataset) {
  hash_name(hash, "dataset", dataset.name());
  hash_name(hash, name_of(dataset.type()), text_of(dataset.shape()));
  for_blocks(dataset, [&](const auto& values) { hash_values(hash, values); });
}

}  // namespace

bool is_circumstance(std::string_view name) {
  constexpr std::array<std::string_view, 12> names = {"created_utc",  "seconds", "attempt",          "run_id",
                                                      "config",       "device",  "threads_per_rank", "library_versions",
                                                      "vbon_version", "forced",  "content_sha256",   "time"};
  return std::find(names.begin(), names.end(), name) != names.end() || name.starts_with("time/");
}

std::string h5_content_sha256(const H5File& file) {
  Sha256 hash;
  hash_attributes(hash, file, "/");
  for (const std::string& name : file.members())
    if (!is_circumstance(name) && file.has_group(name)) hash_attributes(hash, file.group(name), "/" + name);
  for (const std::string& path : file.dataset_paths())
    if (!is_circumstance(path)) hash_dataset(hash, file.dataset(path));
  return hash.hex();
}

std::string write_h5_atomically(const fs::path& path, const std::function<void(H5File&)>& write) {
  H5File file = H5File::create(path.string());
  write(file);
  const std::string content = h5_content_sha256(file);
  file.write_attribute("content_sha256", content);
  const std::span<const std::byte> image = file.image().subspan(static_cast<std::size_t>(kH5FreeBytes));
  const std::string guard = guard_text(Sha256().update(image).hex());
  write_bytes_atomically(path, std::array{std::as_bytes(std::span(guard)), image});
  return content;
}

H5File open_h5(const fs::path& path, std::string_view format, std::int64_t newest, H5Trust trust) {
  const bool guarded = fs::is_regular_file(path) && check_guard(path);
  require(guarded || trust == H5Trust::any || !fs::exists(path),
          "'{}' does not carry the checksum that every file of this program has; it is damaged or foreign",
          path.string());
  if (!guarded && fs::is_regular_file(path)) try_reading_h5(path);
  H5File file = H5File::open(path);
  const auto found = file.attribute<std::string>("format");
  require(found == format, "'{}' is a '{}' file; a '{}' file is needed here", path.string(), found, format);
  const auto version = file.attribute<std::int64_t>("schema_version");
  require(version >= 1 && version <= newest,
          "'{}' has schema version {} of '{}'; this program reads versions 1 to {}: use a newer program", path.string(),
          version, format, newest);
  if (!guarded && file.has_attribute("content_sha256"))
    require(file.attribute<std::string>("content_sha256") == h5_content_sha256(file),
            "'{}' is damaged: its content is not what its checksum says; make it again", path.string());
  return file;
}

bool is_sound_h5(const fs::path& path) {
  try {
    return fs::is_regular_file(path) && check_guard(path);
  } catch (const UserError&) {
    return false;
  }
}

std::string verify_h5(const fs::path& path) {
  if (fs::is_regular_file(path) && !check_guard(path)) try_reading_h5(path);
  const H5File file = H5File::open(path);
  const std::string content = h5_content_sha256(file);
  require(file.attribute<std::string>("content_sha256") == content,
          "'{}' is damaged: its content is not what its checksum says; make it again", path.string());
  return content;
}

}  // namespace vbon
