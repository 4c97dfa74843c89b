#include "store/hdf5_datatype.hpp"

#include <array>
#include <limits>
#include <vector>

#include "vbon/base/error.hpp"
#include "vbon/base/words.hpp"

namespace vbon::detail::h5 {

constexpr int kMaxRank = 8;

Type text_type(const Origin& origin) {
  Type type(VBON_H5(origin, H5Tcopy, H5T_C_S1));
  VBON_H5(origin, H5Tset_size, type.id(), H5T_VARIABLE);
  VBON_H5(origin, H5Tset_cset, type.id(), H5T_CSET_UTF8);
  return type;
}

hid_t memory_type(H5Type type) {
  switch (type) {
    case H5Type::int32: return H5T_NATIVE_INT32;
    case H5Type::int64: return H5T_NATIVE_INT64;
    case H5Type::uint8: return H5T_NATIVE_UINT8;
    case H5Type::float32: return H5T_NATIVE_FLOAT;
    case H5Type::float64: return H5T_NATIVE_DOUBLE;
    case H5Type::text: break;
  }
  throw InternalError("text has no number type");
}

hid_t file_type(H5Type type) {
  switch (type) {
    case H5Type::int32: return H5T_STD_I32LE;
    case H5Type::int64: return H5T_STD_I64LE;
    case H5Type::uint8: return H5T_STD_U8LE;
    case H5Type::float32: return H5T_IEEE_F32LE;
    case H5Type::float64: return H5T_IEEE_F64LE;
    case H5Type::text: break;
  }
  throw InternalError("text has no number type");
}

bool equal_types(hid_t a, hid_t b, const Origin& origin) { return VBON_H5(origin, H5Tequal, a, b) > 0; }

H5Type read_type(hid_t type, const std::string& name, const Origin& origin) {
  if (VBON_H5(origin, H5Tget_class, type) == H5T_STRING) return H5Type::text;
  if (equal_types(type, H5T_STD_I32LE, origin) || equal_types(type, H5T_STD_I32BE, origin)) return H5Type::int32;
  if (equal_types(type, H5T_STD_I64LE, origin) || equal_types(type, H5T_STD_I64BE, origin)) return H5Type::int64;
  if (equal_types(type, H5T_STD_U8LE, origin)) return H5Type::uint8;
  if (equal_types(type, H5T_IEEE_F32LE, origin) || equal_types(type, H5T_IEEE_F32BE, origin)) return H5Type::float32;
  if (equal_types(type, H5T_IEEE_F64LE, origin) || equal_types(type, H5T_IEEE_F64BE, origin)) return H5Type::float64;
  throw UserError("'{}': dataset '{}' has a type that no schema of ours uses", origin.path.string(), name);
}

Shape read_shape(hid_t space, const std::string& name, const Origin& origin) {
  const bool simple = VBON_H5(origin, H5Sget_simple_extent_type, space) != H5S_NULL;
  const int rank = simple ? VBON_H5(origin, H5Sget_simple_extent_ndims, space) : kMaxRank + 1;
  require(rank <= kMaxRank, "'{}': '{}' has no shape that any schema of ours uses", origin.path.string(), name);
  std::array<hsize_t, H5S_MAX_RANK> sizes{};
  if (rank > 0) VBON_H5(origin, H5Sget_simple_extent_dims, space, sizes.data(), nullptr);
  Shape shape;
  for (std::size_t i = 0; i < static_cast<std::size_t>(rank); ++i) {
    require(sizes[i] <= static_cast<hsize_t>(std::numeric_limits<std::int64_t>::max()), "'{}': '{}' is too large",
            origin.path.string(), name);
    shape.push_back(static_cast<std::int64_t>(sizes[i]));
  }
  return shape;
}

Space new_space(const Shape& shape, const Origin& origin) {
  if (shape.empty()) return Space(VBON_H5(origin, H5Screate, H5S_SCALAR));
  const std::vector<hsize_t> sizes(shape.begin(), shape.end());
  return Space(VBON_H5(origin, H5Screate_simple, static_cast<int>(sizes.size()), sizes.data(), nullptr));
}

std::string checked_text(const char* begin, std::size_t length, const std::string& name, const Origin& origin) {
  std::string text(begin, length);
  require(is_valid_utf8(text), "'{}': '{}' holds text that is not UTF-8", origin.path.string(), name);
  return text;
}

void require_writable_text(const std::string& text, const std::string& name) {
  require(text.find('\0') == std::string::npos, "'{}': text with a NUL character cannot be stored; remove it", name);
  require(is_valid_utf8(text), "'{}': text that is not UTF-8 cannot be stored", name);
}

}  // namespace vbon::detail::h5
