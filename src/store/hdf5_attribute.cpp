// The attributes of hdf5.hpp.
#include <algorithm>
#include <memory>
#include <string_view>
#include <vector>

#include "store/hdf5_call.hpp"
#include "store/hdf5_datatype.hpp"
#include "vbon/base/error.hpp"
#include "vbon/store/hdf5.hpp"

namespace vbon {

using namespace detail::h5;

namespace {

using H5Text = std::unique_ptr<char, void (*)(char*)>;  // handed out by HDF5

std::string read_text_attribute(hid_t attribute, hid_t type, const std::string& name, const Origin& origin) {
  if (VBON_H5(origin, H5Tis_variable_str, type) > 0) {
    char* text = nullptr;
    const Type memory = text_type(origin);
    VBON_H5(origin, H5Tset_cset, memory.id(), VBON_H5(origin, H5Tget_cset, type));
    VBON_H5(origin, H5Aread, attribute, memory.id(), &text);
    const H5Text owner(text, [](char* given) { H5free_memory(given); });
    return text == nullptr ? "" : checked_text(text, std::char_traits<char>::length(text), name, origin);
  }
  const std::size_t size = H5Tget_size(type);
  require(size > 0 && size <= origin.bytes, "'{}': attribute '{}' is too large", origin.path.string(), name);
  std::vector<char> text(size);
  VBON_H5(origin, H5Aread, attribute, type, text.data());
  return checked_text(text.data(), std::min(size, std::string_view(text.data(), size).find('\0')), name, origin);
}

H5Attribute read_number_attribute(hid_t attribute, hid_t type, const Shape& shape, const std::string& name,
                                  const Origin& origin) {
  const bool is_float = VBON_H5(origin, H5Tget_class, type) == H5T_FLOAT;
  const bool is_integer = VBON_H5(origin, H5Tget_class, type) == H5T_INTEGER;
  const bool is_list = shape.size() == 1 && shape[0] <= 65536 && is_integer;
  require((is_float && shape.empty()) || (is_integer && shape.empty()) || is_list,
          "'{}': attribute '{}' has a type or shape that no schema of ours uses", origin.path.string(), name);
  if (is_list) {
    std::vector<std::int64_t> values(static_cast<std::size_t>(shape[0]));
    if (!values.empty()) VBON_H5(origin, H5Aread, attribute, H5T_NATIVE_INT64, values.data());
    return values;
  }
  if (is_float) {
    double value = 0;
    VBON_H5(origin, H5Aread, attribute, H5T_NATIVE_DOUBLE, &value);
    return value;
  }
  if (equal_types(type, H5T_STD_U8LE, origin)) {
    std::uint8_t value = 0;
    VBON_H5(origin, H5Aread, attribute, H5T_NATIVE_UINT8, &value);
    return value;
  }
  std::int64_t value = 0;
  VBON_H5(origin, H5Aread, attribute, H5T_NATIVE_INT64, &value);
  return value;
}

void write_plain_attribute(hid_t object, const std::string& name, hid_t stored, hid_t memory, const Shape& shape,
                           const void* value, const Origin& origin) {
  const Space space = new_space(shape, origin);
  if (VBON_H5(origin, H5Aexists, object, name.c_str()) > 0) VBON_H5(origin, H5Adelete, object, name.c_str());
  const AttributeHandle attribute(
      VBON_H5(origin, H5Acreate2, object, name.c_str(), stored, space.id(), H5P_DEFAULT, H5P_DEFAULT));
  if (value != nullptr) VBON_H5(origin, H5Awrite, attribute.id(), memory, value);  // an empty list has nothing to write
}

herr_t collect_attribute_name(hid_t, const char* name, const H5A_info_t*, void* target) {
  return collect_name(0, name, nullptr, target);
}

}  // namespace

void H5Group::write_attribute(const std::string& name, const H5Attribute& value) {
  const Origin& origin = *origin_;
  const auto write = [&](hid_t stored, hid_t memory, const Shape& shape, const void* data) {
    write_plain_attribute(handle_.id(), name, stored, memory, shape, data, origin);
  };
  if (const auto* text = std::get_if<std::string>(&value)) {
    require_writable_text(*text, name);
    const Type type = text_type(origin);
    const char* pointer = text->c_str();
    write(type.id(), type.id(), {}, &pointer);
  } else if (const auto* integer = std::get_if<std::int64_t>(&value)) {
    write(H5T_STD_I64LE, H5T_NATIVE_INT64, {}, integer);
  } else if (const auto* number = std::get_if<double>(&value)) {
    write(H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, {}, number);
  } else if (const auto* byte = std::get_if<std::uint8_t>(&value)) {
    write(H5T_STD_U8LE, H5T_NATIVE_UINT8, {}, byte);
  } else {
    const auto& list = std::get<std::vector<std::int64_t>>(value);
    check(list.size() < 4096, "lists in attributes are short");
    write(H5T_STD_I64LE, H5T_NATIVE_INT64, {static_cast<std::int64_t>(list.size())},
          list.empty() ? nullptr : list.data());
  }
}

bool H5Group::has_attribute(const std::string& name) const {
  return VBON_H5(*origin_, H5Aexists, handle_.id(), name.c_str()) > 0;
}

H5Attribute H5Group::attribute(const std::string& name) const {
  const Origin& origin = *origin_;
  require(has_attribute(name), "'{}' has no attribute '{}': it was not written by this program or is damaged",
          origin.path.string(), name);
  const AttributeHandle attribute(VBON_H5(origin, H5Aopen, handle_.id(), name.c_str(), H5P_DEFAULT));
  const Type type(VBON_H5(origin, H5Aget_type, attribute.id()));
  const Space space(VBON_H5(origin, H5Aget_space, attribute.id()));
  const Shape shape = read_shape(space.id(), name, origin);
  if (VBON_H5(origin, H5Tget_class, type.id()) != H5T_STRING)
    return read_number_attribute(attribute.id(), type.id(), shape, name, origin);
  require(shape.empty(), "'{}': attribute '{}' is a list of texts, which no schema of ours uses", origin.path.string(),
          name);
  return read_text_attribute(attribute.id(), type.id(), name, origin);
}

void H5Group::refuse_attribute(const std::string& name) const {
  throw UserError("'{}': attribute '{}' has another type than the schema says", origin_->path.string(), name);
}

std::vector<std::string> H5Group::attribute_names() const {
  std::vector<std::string> names;
  hsize_t at = 0;
  VBON_H5(*origin_, H5Aiterate2, handle_.id(), H5_INDEX_NAME, H5_ITER_INC, &at, collect_attribute_name, &names);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace vbon
