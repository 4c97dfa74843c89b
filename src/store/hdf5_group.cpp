// The groups of hdf5.hpp: the links to what is in a file, and the making and opening of groups and datasets.
#include <algorithm>
#include <vector>

#include "store/hdf5_call.hpp"
#include "store/hdf5_datatype.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/words.hpp"
#include "vbon/store/hdf5.hpp"

namespace vbon {

using namespace detail::h5;

namespace {

constexpr std::int64_t kChunkBytes = std::int64_t{4} << 20;

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

}  // namespace

const fs::path& H5Group::path() const { return origin_->path; }

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

}  // namespace vbon
