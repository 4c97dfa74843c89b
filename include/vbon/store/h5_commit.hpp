// How our HDF5 files come to be and how far they are trusted.
//
// Every file that we write carries two SHA-256: of its content (attribute `content_sha256`: equal for equal results,
// whatever the time, the attempt or the number of ranks), and of all its bytes after the first 512 (in those 512, as
// text: the guard). HDF5's own parser is not safe on damaged files (1.10.8 crashed or hung on 1.9% of 4,000 randomly
// changed ones), so the guard is checked before HDF5 sees a byte. A file that begins as HDF5 files of other programs do
// has no guard: a child process, which may die of it, reads it first; then the checks of content_sha256 (if it has
// that) and of the schemas apply. The guard says that a file is as it was written, not that its writer meant well.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "vbon/store/hdf5.hpp"

namespace vbon {

// SHA-256 of a file's results: all root and group attributes and all datasets (path, type, shape, bytes) in name order,
// without circumstances: what may differ between two runs that agree (is_circumstance()).
std::string h5_content_sha256(const H5File& file);
// Attributes of time, place and repetition (created_utc, seconds, attempt, run_id, config, device, threads_per_rank,
// library_versions, vbon_version, forced, content_sha256), the dataset `attempt` and everything under /time.
bool is_circumstance(std::string_view name);

// Writes by the commit protocol: `write` fills a file in memory; then checksums, `.name.tmp`, fsync, rename, fsync of
// the folder. When anything fails the temporary is removed and what had the name before is untouched. Returns the
// content's SHA-256.
std::string write_h5_atomically(const fs::path& path, const std::function<void(H5File&)>& write);

enum class H5Trust {
  ours,  // must carry our checksums (files between ranks and attempts)
  any,   // may come from another program
};

// Opens for reading after the checks above, and those of `format` and `schema_version` (newest known: `newest`).
// UserError naming what is wrong.
H5File open_h5(const fs::path& path, std::string_view format, std::int64_t newest, H5Trust trust = H5Trust::any);

// Whether the guard is there and fits all bytes: the file is as we wrote it, whatever it holds.
bool is_sound_h5(const fs::path& path);

// Recomputes the content's SHA-256; UserError when the file does not carry it or another. Returns it.
std::string verify_h5(const fs::path& path);

}  // namespace vbon
