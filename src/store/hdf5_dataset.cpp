// The values of hdf5.hpp's datasets: whole rows, in and out.
#include <algorithm>
#include <limits>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "store/hdf5_call.hpp"
#include "store/hdf5_datatype.hpp"
#include "vbon/base/error.hpp"
#include "vbon/store/hdf5.hpp"

namespace vbon {

using namespace detail::h5;

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

}  // namespace vbon
