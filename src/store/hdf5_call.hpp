// Calls of HDF5's C library, whose header only this file includes: VBON_H5 makes its errors exceptions of ours, handles
// close what it opens.
#pragma once

#include <hdf5.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "store/hdf5_limits.hpp"
#include "vbon/store/hdf5.hpp"

namespace vbon {

struct detail::H5Origin {
  fs::path path;
  std::uint64_t bytes = 0;  // of the file when it was opened; nothing in it can be larger
  bool writing = false;
};

namespace detail::h5 {

using Origin = H5Origin;

// HDF5 prints its error stack unless told otherwise, per thread.
void quiet();

// Throws what HDF5's error stack tells: InternalError while we write, a disk's error by its number, else H5Damage.
[[noreturn]] void fail(const char* function, const Origin& origin);

template <class R>
R checked(R result, const char* function, const Origin& origin) {
  if (result < 0) [[unlikely]]
    fail(function, origin);
  return result;
}

// Every C call goes through here: its error stack becomes an exception of ours.
#define VBON_H5(origin, function, ...) \
  (::vbon::detail::h5::quiet(), ::vbon::detail::h5::checked(function(__VA_ARGS__), #function, origin))

void close_type(std::int64_t id) noexcept;
void close_space(std::int64_t id) noexcept;
void close_list(std::int64_t id) noexcept;
void close_attribute(std::int64_t id) noexcept;
void close_object(std::int64_t id) noexcept;
using Type = H5Handle<close_type>;
using Space = H5Handle<close_space>;
using PropertyList = H5Handle<close_list>;
using AttributeHandle = H5Handle<close_attribute>;
using Object = H5Handle<close_object>;

PropertyList property_list(hid_t kind, const Origin& origin);

// For H5Literate: adds to the vector of strings at `target`, and ends the iteration at kMaxNames.
herr_t collect_name(hid_t, const char* name, const H5L_info_t*, void* target);

}  // namespace detail::h5
}  // namespace vbon
