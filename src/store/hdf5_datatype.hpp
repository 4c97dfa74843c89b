// What values look like in a file: HDF5's datatypes and dataspaces for our types and shapes, and what text may hold.
#pragma once

#include <string>

#include "store/hdf5_call.hpp"
#include "vbon/store/hdf5.hpp"

namespace vbon::detail::h5 {

Type text_type(const Origin& origin);  // of any length, UTF-8
hid_t memory_type(H5Type type);        // of numbers, in this machine's byte order
hid_t file_type(H5Type type);          // of numbers, little-endian

bool equal_types(hid_t a, hid_t b, const Origin& origin);
// The type of a dataset in a file, either byte order; UserError for all others.
H5Type read_type(hid_t type, const std::string& name, const Origin& origin);

// Of a dataset or attribute in a file; UserError for shapes that no schema of ours uses.
Shape read_shape(hid_t space, const std::string& name, const Origin& origin);
Space new_space(const Shape& shape, const Origin& origin);

// Text of `length` bytes from a file, and text for one: UserError unless it is UTF-8.
std::string checked_text(const char* begin, std::size_t length, const std::string& name, const Origin& origin);
void require_writable_text(const std::string& text, const std::string& name);

}  // namespace vbon::detail::h5
