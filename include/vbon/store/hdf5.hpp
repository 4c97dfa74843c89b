// HDF5 behind typed values: handles that close themselves, spans in and vectors out, no C type in sight.
//
// H5File::create() makes a file in memory; h5_commit.hpp puts it on disk as a whole, so that HDF5 never meets a full
// disk (it neither reports the cause nor recovers) and no half-written HDF5 file exists. H5File::open() reads what
// anybody may have written, so it trusts nothing: filter plugins are off, filtered, external and virtual datasets, soft
// and external links are refused, and no size from the file is allocated before it is known to fit into the file. (What
// HDF5 itself makes of damaged bytes is another matter: open_h5() of h5_commit.hpp.) Locks are not used: a file under
// its final name is never written again. Errors: a bad file is the user's (UserError), an
// unreadable disk the machine's (EnvironmentError).
#pragma once

#include <concepts>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "vbon/base/error.hpp"

namespace vbon {

namespace fs = std::filesystem;

// What HDF5 cannot read; all other UserErrors are refusals of ours.
class H5Damage : public UserError {
 public:
  using UserError::UserError;
};

using Shape = std::vector<std::int64_t>;      // sizes, slowest first; {} is a scalar
inline constexpr std::int64_t kAnySize = -1;  // in an expected shape

enum class H5Type { int32, int64, uint8, float32, float64, text };
std::string_view name_of(H5Type type);
std::size_t bytes_of(H5Type type);  // of one value; text: of its reference in the file

template <class T>
inline constexpr int kH5TypeOf = -1;
template <>
inline constexpr int kH5TypeOf<std::int32_t> = static_cast<int>(H5Type::int32);
template <>
inline constexpr int kH5TypeOf<std::int64_t> = static_cast<int>(H5Type::int64);
template <>
inline constexpr int kH5TypeOf<std::uint8_t> = static_cast<int>(H5Type::uint8);
template <>
inline constexpr int kH5TypeOf<float> = static_cast<int>(H5Type::float32);
template <>
inline constexpr int kH5TypeOf<double> = static_cast<int>(H5Type::float64);

template <class T>
concept H5Number = kH5TypeOf<T>
>= 0;
template <H5Number T>
constexpr H5Type h5_type() {
  return static_cast<H5Type>(kH5TypeOf<T>);
}

using H5Attribute = std::variant<std::string, std::int64_t, double, std::uint8_t, std::vector<std::int64_t>>;

// Product of the sizes; UserError naming `what` when it does not fit or a size is negative.
std::int64_t num_elements(const Shape& shape, std::string_view what);
std::string text_of(const Shape& shape);  // "[3, 4]"

// The one owner of an HDF5 id: moves steal, the destructor closes and never throws.
template <void (*Close)(std::int64_t) noexcept>
class H5Handle {
 public:
  H5Handle() = default;
  explicit H5Handle(std::int64_t id) : id_(id) {}
  ~H5Handle() {
    if (id_ >= 0) Close(id_);
  }
  H5Handle(H5Handle&& other) noexcept : id_(std::exchange(other.id_, -1)) {}
  H5Handle& operator=(H5Handle&& other) noexcept {
    H5Handle taken(std::move(other));
    std::swap(id_, taken.id_);
    return *this;
  }
  H5Handle(const H5Handle&) = delete;
  H5Handle& operator=(const H5Handle&) = delete;
  std::int64_t id() const { return id_; }
  std::int64_t release() { return std::exchange(id_, -1); }

 private:
  std::int64_t id_ = -1;
};

namespace detail {
void close_h5_file(std::int64_t id) noexcept;
void close_h5_group(std::int64_t id) noexcept;
void close_h5_dataset(std::int64_t id) noexcept;
struct H5Origin;  // the file that an object belongs to: its path, size and direction
}  // namespace detail

class H5Dataset {
 public:
  const std::string& name() const { return name_; }
  H5Type type() const { return type_; }
  const Shape& shape() const { return shape_; }
  std::int64_t num_rows() const { return shape_.empty() ? 1 : shape_.front(); }
  std::int64_t row_elements() const { return row_elements_; }  // values of one step of the leading dimension

  // Whole rows of the leading dimension from row `first` on; the number of values gives the number of rows.
  template <H5Number T>
  void write_rows(std::int64_t first, std::span<const T> values) {
    put(h5_type<T>(), first, values.size(), values.data());
  }
  template <H5Number T>
  void read_rows(std::int64_t first, std::span<T> values) const {
    take(h5_type<T>(), first, values.size(), values.data());
  }
  template <H5Number T>
  std::vector<T> read() const {
    std::vector<T> values(static_cast<std::size_t>(num_rows() * row_elements_));
    read_rows(0, std::span<T>(values));
    return values;
  }
  // UTF-8 without NUL characters (HDF5 would cut them).
  void write_text(std::int64_t first, std::span<const std::string> values);
  std::vector<std::string> read_text(std::int64_t first, std::int64_t count) const;
  std::vector<std::string> read_text() const { return read_text(0, num_rows()); }

 private:
  friend class H5Group;
  void put(H5Type type, std::int64_t first, std::size_t count, const void* values);
  void take(H5Type type, std::int64_t first, std::size_t count, void* values) const;

  std::shared_ptr<const detail::H5Origin> origin_;
  H5Handle<detail::close_h5_dataset> handle_;
  std::string name_;
  H5Type type_ = H5Type::uint8;
  Shape shape_;
  std::int64_t row_elements_ = 1;
};

class H5Group {
 public:
  const fs::path& path() const;  // of the file, or the name given to create()

  void write_attribute(const std::string& name, const H5Attribute& value);
  bool has_attribute(const std::string& name) const;
  H5Attribute attribute(const std::string& name) const;
  template <class T>
  T attribute(const std::string& name) const {
    H5Attribute value = attribute(name);
    if (T* wanted = std::get_if<T>(&value)) return std::move(*wanted);
    refuse_attribute(name);
  }
  std::vector<std::string> attribute_names() const;  // in name order

  // Names may be paths ("prompt/tokens"); create_* make the groups on the way. At most 4 MiB lie in one chunk.
  H5Group create_group(const std::string& name);
  H5Dataset create_dataset(const std::string& name, H5Type type, const Shape& shape);
  bool has(const std::string& name) const;
  bool has_group(const std::string& name) const;
  H5Group group(const std::string& name) const;
  H5Dataset dataset(const std::string& name) const;
  // As dataset(), refusing another type or shape (kAnySize: any); the message names both.
  H5Dataset dataset(const std::string& name, H5Type type, const Shape& shape) const;
  std::vector<std::string> members() const;        // direct children, in name order
  std::vector<std::string> dataset_paths() const;  // all datasets below, in name order

  template <H5Number T>
  void write(const std::string& name, const Shape& shape, const std::vector<T>& values) {
    create_dataset(name, h5_type<T>(), shape).write_rows(0, std::span<const T>(values));
  }
  void write(const std::string& name, const std::vector<std::string>& values) {
    create_dataset(name, H5Type::text, {static_cast<std::int64_t>(values.size())}).write_text(0, values);
  }
  template <H5Number T>
  std::vector<T> read(const std::string& name, const Shape& shape) const {
    return dataset(name, h5_type<T>(), shape).template read<T>();
  }
  std::vector<std::string> read_text(const std::string& name, std::int64_t count) const {
    return dataset(name, H5Type::text, {count}).read_text();
  }

 protected:
  H5Group() = default;
  [[noreturn]] void refuse_attribute(const std::string& name) const;
  void collect(const std::string& prefix, int depth, std::size_t& objects, std::vector<std::string>& found) const;

  std::shared_ptr<const detail::H5Origin> origin_;
  H5Handle<detail::close_h5_group> handle_;
};

// A file is its root group.
class H5File : public H5Group {
 public:
  static H5File create(const std::string& name);  // in memory; the name is for messages
  static H5File open(const fs::path& path);       // for reading
  // All bytes of a new file, valid until it changes or goes. The first kH5FreeBytes are the caller's to fill.
  std::span<const std::byte> image();
  H5File(H5File&&) noexcept = default;
  H5File& operator=(H5File&&) = delete;
  ~H5File() { handle_ = {}; }  // before the file

 private:
  H5File() = default;
  H5Handle<detail::close_h5_file> file_;
};

inline constexpr std::int64_t kH5FreeBytes = 512;  // the user block at the beginning of every file that we create
std::string hdf5_version();                        // of the library in use, "1.10.8"
bool hdf5_is_thread_safe();                        // the library in use
bool hdf5_is_parallel();                           // the flavour that this was compiled with (the serial one is meant)

}  // namespace vbon
