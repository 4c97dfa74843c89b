#include "vbon/store/hdf5.hpp"

#include <hdf5.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <limits>

#include "vbon/base/error.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/words.hpp"

namespace vbon {

struct detail::H5Origin {
  fs::path path;
  std::uint64_t bytes = 0;  // of the file when it was opened; nothing in it can be larger
  bool writing = false;
};

namespace {

using Origin = detail::H5Origin;

constexpr std::int64_t kChunkBytes = std::int64_t{4} << 20;
constexpr int kMaxRank = 8;
constexpr int kMaxDepth = 16;               // of groups: hard links may form circles
constexpr std::size_t kMaxNames = 1 << 16;  // in one file

// HDF5 prints its error stack unless told otherwise, per thread.
void quiet() {
  thread_local const bool done = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
  (void)done;
}

struct ErrorStory {
  std::string text;
  int error_number = 0;
};

herr_t collect_error(unsigned, const H5E_error2_t* error, void* target) {
  auto& story = *static_cast<ErrorStory*>(target);
  const std::string_view text = error->desc == nullptr ? "" : error->desc;
  if (const std::size_t at = text.find("errno = "); at != std::string_view::npos && story.error_number == 0)
    std::from_chars(text.data() + at + 8, text.data() + text.size(), story.error_number);
  if (story.text.size() < 200 && !text.empty()) story.text += (story.text.empty() ? "" : "; ") + std::string(text);
  return 0;
}

[[noreturn]] void fail(const char* function, const Origin& origin) {
  ErrorStory story;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, collect_error, &story);
  H5Eclear2(H5E_DEFAULT);
  const std::string path = origin.path.string();
  if (origin.writing) throw InternalError(fmt::format("{} on '{}': {}", function, path, story.text));
  if (story.error_number != 0) throw_input_error(story.error_number, "read", path);
  throw H5Damage("'{}' is damaged or no HDF5 file ({}: {}); make it again", path, function, story.text);
}

template <class R>
R checked(R result, const char* function, const Origin& origin) {
  if (result < 0) [[unlikely]]
    fail(function, origin);
  return result;
}

// Every C call goes through here: its error stack becomes an exception of ours.
#define VBON_H5(origin, function, ...) (quiet(), checked(function(__VA_ARGS__), #function, origin))

template <herr_t (*Close)(hid_t)>
void close_quietly(std::int64_t id) noexcept {
  quiet();
  if (Close(id) >= 0) return;
  try {
    log::debug("HDF5 could not close an object");
  } catch (...) {  // a destructor has nobody to tell
  }
}

void close_type(std::int64_t id) noexcept { close_quietly<H5Tclose>(id); }
void close_space(std::int64_t id) noexcept { close_quietly<H5Sclose>(id); }
void close_list(std::int64_t id) noexcept { close_quietly<H5Pclose>(id); }
void close_attribute(std::int64_t id) noexcept { close_quietly<H5Aclose>(id); }
void close_object(std::int64_t id) noexcept { close_quietly<H5Oclose>(id); }
using Type = H5Handle<close_type>;
using Space = H5Handle<close_space>;
using PropertyList = H5Handle<close_list>;
using AttributeHandle = H5Handle<close_attribute>;
using Object = H5Handle<close_object>;

PropertyList property_list(hid_t kind, const Origin& origin) { return PropertyList(VBON_H5(origin, H5Pcreate, kind)); }

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

// The type of a dataset in a file, either byte order; UserError for all others.
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

// Refuses what makes HDF5 leave the file or run code: filters, external storage, virtual sources.
void refuse_strange_storage(hid_t dataset, const std::string& name, const Origin& origin) {
  const PropertyList list(VBON_H5(origin, H5Dget_create_plist, dataset));
  const int layout = VBON_H5(origin, H5Pget_layout, list.id());
  require(layout == H5D_CONTIGUOUS || layout == H5D_CHUNKED || layout == H5D_COMPACT,
          "'{}': dataset '{}' is virtual; copy its data into one plain file (h5repack -l CONTI)", origin.path.string(),
          name);
  require(VBON_H5(origin, H5Pget_nfilters, list.id()) == 0,
          "'{}': dataset '{}' is stored through a filter (compression); rewrite the file without: h5repack -f NONE",
          origin.path.string(), name);
  require(VBON_H5(origin, H5Pget_external_count, list.id()) == 0,
          "'{}': dataset '{}' keeps its data in another file; rewrite it as one plain file", origin.path.string(),
          name);
}

// Each part of a path must be a hard link: soft and external ones lead elsewhere.
bool walk_links(hid_t group, const std::string& name, const Origin& origin) {
  std::string so_far;
  for (const std::string& part : split(name, '/')) {
    require(!part.empty() && part != "." && part != "..", "'{}': '{}' is no plain name", origin.path.string(), name);
    so_far += (so_far.empty() ? "" : "/") + part;
    if (VBON_H5(origin, H5Lexists, group, so_far.c_str(), H5P_DEFAULT) == 0) return false;
    H5L_info_t info = {};
    VBON_H5(origin, H5Lget_info, group, so_far.c_str(), &info, H5P_DEFAULT);
    require(info.type == H5L_TYPE_HARD, "'{}': '{}' is a soft or external link; only plain objects are read",
            origin.path.string(), so_far);
    if (so_far.size() == name.size()) break;
    const Object object(VBON_H5(origin, H5Oopen, group, so_far.c_str(), H5P_DEFAULT));
    if (VBON_H5(origin, H5Iget_type, object.id()) != H5I_GROUP) return false;
  }
  return true;
}

// The link that leads to an object of the wanted kind; UserError otherwise.
Object open_object(hid_t group, const std::string& name, H5I_type_t kind, const char* word, const Origin& origin) {
  require(walk_links(group, name, origin), "'{}' has no {} '{}': it was not written by this program or is damaged",
          origin.path.string(), word, name);
  Object object(VBON_H5(origin, H5Oopen, group, name.c_str(), H5P_DEFAULT));
  require(VBON_H5(origin, H5Iget_type, object.id()) == kind, "'{}': '{}' is no {}", origin.path.string(), name, word);
  return object;
}

// Full inner sizes as long as a chunk stays within kChunkBytes, then a part of one, then single steps.
std::vector<hsize_t> chunk_sizes(const Shape& shape, std::size_t value_bytes) {
  std::vector<hsize_t> chunk(shape.size(), 1);
  std::int64_t room = kChunkBytes / static_cast<std::int64_t>(value_bytes);
  for (std::size_t i = shape.size(); i-- > 0;) {
    const std::int64_t size = std::min(shape[i], room);
    chunk[i] = static_cast<hsize_t>(size);
    room /= size;
    if (size < shape[i]) break;
  }
  return chunk;
}

// Bytes that text takes while it is read. HDF5 hands them out by value, and many values may share one place in the
// file, so that the sum is bounded here and not by the file's size alone.
struct TextBudget {
  std::uint64_t left = 0;
  std::vector<std::unique_ptr<char[]>> blocks;  // freed together, also those that a failed read never handed out
};

void* allocate_text(std::size_t size, void* target) {
  auto& budget = *static_cast<TextBudget*>(target);
  if (size > budget.left) return nullptr;
  budget.left -= size;
  budget.blocks.push_back(std::make_unique_for_overwrite<char[]>(size));
  return budget.blocks.back().get();
}

void free_text(void*, void*) {}

std::string checked_text(const char* begin, std::size_t length, const std::string& name, const Origin& origin) {
  std::string text(begin, length);
  require(is_valid_utf8(text), "'{}': '{}' holds text that is not UTF-8", origin.path.string(), name);
  return text;
}

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
  VBON_H5(origin, H5Awrite, attribute.id(), memory, value);
}

void require_writable_text(const std::string& text, const std::string& name) {
  require(text.find('\0') == std::string::npos, "'{}': text with a NUL character cannot be stored; remove it", name);
  require(is_valid_utf8(text), "'{}': text that is not UTF-8 cannot be stored", name);
}

herr_t collect_name(hid_t, const char* name, const H5L_info_t*, void* target) {
  auto& names = *static_cast<std::vector<std::string>*>(target);
  names.emplace_back(name);
  return names.size() < kMaxNames ? 0 : -1;
}

herr_t collect_attribute_name(hid_t, const char* name, const H5A_info_t*, void* target) {
  return collect_name(0, name, nullptr, target);
}

}  // namespace

void detail::close_h5_file(std::int64_t id) noexcept { close_quietly<H5Fclose>(id); }
void detail::close_h5_group(std::int64_t id) noexcept { close_quietly<H5Gclose>(id); }
void detail::close_h5_dataset(std::int64_t id) noexcept { close_quietly<H5Dclose>(id); }

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

// ---- datasets

namespace {

// Whole rows of a dataset from row `first` on, in the file and in memory. Both have one shape: HDF5 would otherwise
// pair the values of chunked datasets one by one.
struct Selection {
  Space in_file;
  Space in_memory;
};

Selection select_rows(hid_t dataset, const Shape& shape, std::int64_t first, std::int64_t rows, const Origin& origin) {
  Space in_file(VBON_H5(origin, H5Dget_space, dataset));
  if (shape.empty()) return {std::move(in_file), new_space({}, origin)};
  std::vector<hsize_t> start(shape.size(), 0), size(shape.begin(), shape.end());
  start[0] = static_cast<hsize_t>(first);
  size[0] = static_cast<hsize_t>(rows);
  VBON_H5(origin, H5Sselect_hyperslab, in_file.id(), H5S_SELECT_SET, start.data(), nullptr, size.data(), nullptr);
  Shape selected = shape;
  selected[0] = rows;
  return {std::move(in_file), new_space(selected, origin)};
}

std::int64_t checked_rows(const H5Dataset& dataset, H5Type type, std::int64_t first, std::size_t count) {
  check(type == dataset.type(), "values have the dataset's type");
  if (dataset.row_elements() == 0) return 0;
  const std::int64_t rows = static_cast<std::int64_t>(count) / dataset.row_elements();
  check(static_cast<std::int64_t>(count) == rows * dataset.row_elements() && first >= 0 &&
            first <= dataset.num_rows() && rows <= dataset.num_rows() - first,
        "whole rows of the dataset are read and written");
  return rows;
}

}  // namespace

void H5Dataset::put(H5Type type, std::int64_t first, std::size_t count, const void* values) {
  const std::int64_t rows = checked_rows(*this, type, first, count);
  if (count == 0) return;
  const Selection rows_of = select_rows(handle_.id(), shape_, first, rows, *origin_);
  VBON_H5(*origin_, H5Dwrite, handle_.id(), memory_type(type), rows_of.in_memory.id(), rows_of.in_file.id(),
          H5P_DEFAULT, values);
}

void H5Dataset::take(H5Type type, std::int64_t first, std::size_t count, void* values) const {
  const std::int64_t rows = checked_rows(*this, type, first, count);
  if (count == 0) return;
  const Selection rows_of = select_rows(handle_.id(), shape_, first, rows, *origin_);
  VBON_H5(*origin_, H5Dread, handle_.id(), memory_type(type), rows_of.in_memory.id(), rows_of.in_file.id(), H5P_DEFAULT,
          values);
}

void H5Dataset::write_text(std::int64_t first, std::span<const std::string> values) {
  const std::int64_t rows = checked_rows(*this, H5Type::text, first, values.size());
  if (values.empty()) return;
  std::vector<const char*> pointers;
  for (const std::string& value : values) {
    require_writable_text(value, name_);
    pointers.push_back(value.c_str());
  }
  const Selection rows_of = select_rows(handle_.id(), shape_, first, rows, *origin_);
  const Type memory = text_type(*origin_);
  VBON_H5(*origin_, H5Dwrite, handle_.id(), memory.id(), rows_of.in_memory.id(), rows_of.in_file.id(), H5P_DEFAULT,
          pointers.data());
}

std::vector<std::string> H5Dataset::read_text(std::int64_t first, std::int64_t count) const {
  require(shape_.size() <= 1, "'{}': dataset '{}' is text of shape {}, which no schema of ours uses",
          origin_->path.string(), name_, text_of(shape_));
  const std::int64_t rows = checked_rows(*this, H5Type::text, first, static_cast<std::size_t>(count));
  std::vector<std::string> values;
  if (count == 0) return values;
  const Selection rows_of = select_rows(handle_.id(), shape_, first, rows, *origin_);
  const Type stored(VBON_H5(*origin_, H5Dget_type, handle_.id()));
  values.reserve(static_cast<std::size_t>(count));
  if (VBON_H5(*origin_, H5Tis_variable_str, stored.id()) == 0) {
    const std::size_t size = H5Tget_size(stored.id());
    std::vector<char> block(size * static_cast<std::size_t>(count));
    VBON_H5(*origin_, H5Dread, handle_.id(), stored.id(), rows_of.in_memory.id(), rows_of.in_file.id(), H5P_DEFAULT,
            block.data());
    for (std::size_t at = 0; at < block.size(); at += size) {
      const std::string_view cell(block.data() + at, size);
      values.push_back(checked_text(cell.data(), std::min(size, cell.find('\0')), name_, *origin_));
    }
    return values;
  }
  const Type memory = text_type(*origin_);
  VBON_H5(*origin_, H5Tset_cset, memory.id(), VBON_H5(*origin_, H5Tget_cset, stored.id()));
  TextBudget budget{origin_->writing ? std::numeric_limits<std::uint64_t>::max() : origin_->bytes, {}};
  const PropertyList transfer = property_list(H5P_DATASET_XFER, *origin_);
  VBON_H5(*origin_, H5Pset_vlen_mem_manager, transfer.id(), allocate_text, &budget, free_text, nullptr);
  std::vector<char*> pointers(static_cast<std::size_t>(count), nullptr);
  VBON_H5(*origin_, H5Dread, handle_.id(), memory.id(), rows_of.in_memory.id(), rows_of.in_file.id(), transfer.id(),
          pointers.data());
  for (const char* text : pointers)
    values.push_back(text == nullptr ? "" : checked_text(text, std::char_traits<char>::length(text), name_, *origin_));
  return values;
}

// ---- groups

const fs::path& H5Group::path() const { return origin_->path; }

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
    write(H5T_STD_I64LE, H5T_NATIVE_INT64, {static_cast<std::int64_t>(list.size())}, list.data());
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

H5Group H5Group::create_group(const std::string& name) {
  const PropertyList links = property_list(H5P_LINK_CREATE, *origin_);
  VBON_H5(*origin_, H5Pset_create_intermediate_group, links.id(), 1);
  H5Group group;
  group.origin_ = origin_;
  group.handle_ = H5Handle<detail::close_h5_group>(
      VBON_H5(*origin_, H5Gcreate2, handle_.id(), name.c_str(), links.id(), H5P_DEFAULT, H5P_DEFAULT));
  return group;
}

H5Dataset H5Group::create_dataset(const std::string& name, H5Type type, const Shape& shape) {
  const Origin& origin = *origin_;
  const std::int64_t count = num_elements(shape, name);
  const PropertyList links = property_list(H5P_LINK_CREATE, origin);
  VBON_H5(origin, H5Pset_create_intermediate_group, links.id(), 1);
  const PropertyList storage = property_list(H5P_DATASET_CREATE, origin);
  VBON_H5(origin, H5Pset_obj_track_times, storage.id(), false);  // equal content gives equal bytes
  if (count > kChunkBytes / static_cast<std::int64_t>(bytes_of(type))) {
    const std::vector<hsize_t> chunk = chunk_sizes(shape, bytes_of(type));
    VBON_H5(origin, H5Pset_chunk, storage.id(), static_cast<int>(chunk.size()), chunk.data());
  }
  const Space space = new_space(shape, origin);
  const Type text = text_type(origin);
  H5Dataset dataset;
  dataset.handle_ = H5Handle<detail::close_h5_dataset>(VBON_H5(origin, H5Dcreate2, handle_.id(), name.c_str(),
                                                               type == H5Type::text ? text.id() : file_type(type),
                                                               space.id(), links.id(), storage.id(), H5P_DEFAULT));
  dataset.origin_ = origin_;
  dataset.name_ = name;
  dataset.type_ = type;
  dataset.shape_ = shape;
  dataset.row_elements_ = num_elements(Shape(shape.empty() ? shape.begin() : shape.begin() + 1, shape.end()), name);
  return dataset;
}

bool H5Group::has(const std::string& name) const { return walk_links(handle_.id(), name, *origin_); }

bool H5Group::has_group(const std::string& name) const {
  if (!has(name)) return false;
  const Object object(VBON_H5(*origin_, H5Oopen, handle_.id(), name.c_str(), H5P_DEFAULT));
  return VBON_H5(*origin_, H5Iget_type, object.id()) == H5I_GROUP;
}

H5Group H5Group::group(const std::string& name) const {
  Object object = open_object(handle_.id(), name, H5I_GROUP, "group", *origin_);
  H5Group group;
  group.origin_ = origin_;
  group.handle_ = H5Handle<detail::close_h5_group>(object.release());
  return group;
}

H5Dataset H5Group::dataset(const std::string& name) const {
  const Origin& origin = *origin_;
  Object object = open_object(handle_.id(), name, H5I_DATASET, "dataset", origin);
  H5Dataset dataset;
  dataset.handle_ = H5Handle<detail::close_h5_dataset>(object.release());
  const hid_t id = dataset.handle_.id();
  refuse_strange_storage(id, name, origin);
  const Type type(VBON_H5(origin, H5Dget_type, id));
  const Space space(VBON_H5(origin, H5Dget_space, id));
  dataset.origin_ = origin_;
  dataset.name_ = name;
  dataset.type_ = read_type(type.id(), name, origin);
  dataset.shape_ = read_shape(space.id(), name, origin);
  const std::int64_t count = num_elements(dataset.shape_, name);
  const std::uint64_t stored = static_cast<std::uint64_t>(H5Tget_size(type.id()));
  require(origin.writing || stored == 0 || static_cast<std::uint64_t>(count) <= origin.bytes / stored,
          "'{}': dataset '{}' claims {} values, more than the file can hold; it is truncated or damaged",
          origin.path.string(), name, count);
  const Shape& shape = dataset.shape_;
  dataset.row_elements_ = num_elements(Shape(shape.empty() ? shape.begin() : shape.begin() + 1, shape.end()), name);
  return dataset;
}

H5Dataset H5Group::dataset(const std::string& name, H5Type type, const Shape& shape) const {
  H5Dataset found = dataset(name);
  bool same = found.shape_.size() == shape.size();
  for (std::size_t i = 0; same && i < shape.size(); ++i) same = shape[i] == kAnySize || shape[i] == found.shape_[i];
  require(found.type_ == type && same, "'{}': dataset '{}' is {} {} where {} {} is needed (-1: any)",
          origin_->path.string(), name, name_of(found.type_), text_of(found.shape_), name_of(type), text_of(shape));
  return found;
}

std::vector<std::string> H5Group::members() const {
  std::vector<std::string> names;
  hsize_t at = 0;
  VBON_H5(*origin_, H5Literate, handle_.id(), H5_INDEX_NAME, H5_ITER_INC, &at, collect_name, &names);
  std::sort(names.begin(), names.end());
  return names;
}

void H5Group::collect(const std::string& prefix, int depth, std::size_t& objects,
                      std::vector<std::string>& found) const {
  require(depth < kMaxDepth, "'{}' has more groups in each other than any schema of ours", origin_->path.string());
  for (const std::string& name : members()) {
    require(++objects <= kMaxNames, "'{}' has more objects than any schema of ours", origin_->path.string());
    if (has_group(name)) group(name).collect(prefix + name + "/", depth + 1, objects, found);
    else found.push_back(prefix + name);
  }
}

std::vector<std::string> H5Group::dataset_paths() const {
  std::vector<std::string> found;
  std::size_t objects = 0;
  collect("", 0, objects, found);
  std::sort(found.begin(), found.end());
  return found;
}

// ---- files

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

}  // namespace vbon
