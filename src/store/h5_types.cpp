// The parts of hdf5.hpp that need no HDF5.
#include <array>

#include "vbon/base/error.hpp"
#include "vbon/store/hdf5.hpp"

namespace vbon {

std::string_view name_of(H5Type type) {
  constexpr std::array<std::string_view, 6> names = {"int32", "int64", "uint8", "float32", "float64", "text"};
  return names[static_cast<std::size_t>(type)];
}

std::size_t bytes_of(H5Type type) {
  constexpr std::array<std::size_t, 6> sizes = {4, 8, 1, 4, 8, 16};
  return sizes[static_cast<std::size_t>(type)];
}

std::int64_t num_elements(const Shape& shape, std::string_view what) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape)
    require(size >= 0 && !__builtin_mul_overflow(count, size, &count), "{} has the impossible shape {}", what,
            text_of(shape));
  return count;
}

std::string text_of(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

}  // namespace vbon
