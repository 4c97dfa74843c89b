// The files of hdf5.hpp, in memory and on disk, and what the library in use is.
#include <algorithm>
#include <cerrno>
#include <memory>

#include "store/hdf5_call.hpp"
#include "vbon/base/error.hpp"
#include "vbon/store/hdf5.hpp"

namespace vbon {

using namespace detail::h5;

namespace {

PropertyList file_access(const Origin& origin) {
  PropertyList list = property_list(H5P_FILE_ACCESS, origin);
  VBON_H5(origin, H5Pset_fclose_degree, list.id(), H5F_CLOSE_SEMI);  // closing with open objects is a bug that shows
#if H5_VERSION_GE(1, 10, 7)
  VBON_H5(origin, H5Pset_file_locking, list.id(), false, true);
#endif
  VBON_H5(origin, H5PLset_loading_state, 0u);
  return list;
}

hid_t root_of(hid_t file, const Origin& origin) { return VBON_H5(origin, H5Gopen2, file, "/", H5P_DEFAULT); }

}  // namespace

H5File H5File::create(const std::string& name) {
  auto origin = std::make_shared<Origin>();
  origin->path = name;
  origin->writing = true;
  const PropertyList access = file_access(*origin);
  VBON_H5(*origin, H5Pset_fapl_core, access.id(), std::size_t{1} << 20, false);
  const PropertyList creation = property_list(H5P_FILE_CREATE, *origin);
  VBON_H5(*origin, H5Pset_userblock, creation.id(), static_cast<hsize_t>(kH5FreeBytes));
  H5File file;
  file.origin_ = origin;
  file.file_ = H5Handle<detail::close_h5_file>(
      VBON_H5(*origin, H5Fcreate, name.c_str(), H5F_ACC_TRUNC, creation.id(), access.id()));
  file.handle_ = H5Handle<detail::close_h5_group>(root_of(file.file_.id(), *origin));
  return file;
}

std::span<const std::byte> H5File::image() {
  check(origin_->writing, "only a new file has an image");
  VBON_H5(*origin_, H5Fflush, file_.id(), H5F_SCOPE_GLOBAL);
  // The end of what is used, which HDF5 1.10 counts from behind the free bytes; the driver's block is longer.
  const ssize_t used = VBON_H5(*origin_, H5Fget_file_image, file_.id(), nullptr, std::size_t{0});
  hsize_t block = 0;
  VBON_H5(*origin_, H5Fget_filesize, file_.id(), &block);
  const auto size = std::min(static_cast<std::size_t>(used + kH5FreeBytes), static_cast<std::size_t>(block));
  void** memory = nullptr;  // the driver keeps the file in one block and tells where its address is
  VBON_H5(*origin_, H5Fget_vfd_handle, file_.id(), H5P_DEFAULT, reinterpret_cast<void**>(&memory));
  return {static_cast<const std::byte*>(*memory), size};
}

H5File H5File::open(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) throw_input_error(error ? error.value() : ENOENT, "open", path.string());
  require(fs::is_regular_file(status), "'{}' is no plain file; an HDF5 file is needed here", path.string());
  auto origin = std::make_shared<Origin>();
  origin->path = path;
  origin->bytes = fs::file_size(path, error);
  if (error) throw_input_error(error.value(), "stat", path.string());
  const PropertyList access = file_access(*origin);
  H5File file;
  file.origin_ = origin;
  file.file_ = H5Handle<detail::close_h5_file>(VBON_H5(*origin, H5Fopen, path.c_str(), H5F_ACC_RDONLY, access.id()));
  file.handle_ = H5Handle<detail::close_h5_group>(root_of(file.file_.id(), *origin));
  return file;
}

std::string hdf5_version() {
  unsigned major = 0, minor = 0, release = 0;
  check(H5get_libversion(&major, &minor, &release) >= 0, "the HDF5 library has a version");
  return fmt::format("{}.{}.{}", major, minor, release);
}

bool hdf5_is_thread_safe() {
  hbool_t safe = false;
  return H5is_library_threadsafe(&safe) >= 0 && safe;
}

bool hdf5_is_parallel() {
#ifdef H5_HAVE_PARALLEL
  return true;
#else
  return false;
#endif
}

}  // namespace vbon
