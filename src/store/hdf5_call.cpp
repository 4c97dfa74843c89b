#include "store/hdf5_call.hpp"

#include <charconv>
#include <string_view>
#include <vector>

#include "vbon/base/error.hpp"
#include "vbon/base/log.hpp"

namespace vbon {
namespace detail::h5 {
namespace {

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

template <herr_t (*Close)(hid_t)>
void close_quietly(std::int64_t id) noexcept {
  quiet();
  if (Close(id) >= 0) return;
  try {
    log::debug("HDF5 could not close an object");
  } catch (...) {  // a destructor has nobody to tell
  }
}

}  // namespace

void quiet() {
  thread_local const bool done = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
  (void)done;
}

void fail(const char* function, const Origin& origin) {
  ErrorStory story;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, collect_error, &story);
  H5Eclear2(H5E_DEFAULT);
  const std::string path = origin.path.string();
  if (origin.writing) throw InternalError(fmt::format("{} on '{}': {}", function, path, story.text));
  if (story.error_number != 0) throw_input_error(story.error_number, "read", path);
  throw H5Damage("'{}' is damaged or no HDF5 file ({}: {}); make it again", path, function, story.text);
}

void close_type(std::int64_t id) noexcept { close_quietly<H5Tclose>(id); }
void close_space(std::int64_t id) noexcept { close_quietly<H5Sclose>(id); }
void close_list(std::int64_t id) noexcept { close_quietly<H5Pclose>(id); }
void close_attribute(std::int64_t id) noexcept { close_quietly<H5Aclose>(id); }
void close_object(std::int64_t id) noexcept { close_quietly<H5Oclose>(id); }

PropertyList property_list(hid_t kind, const Origin& origin) { return PropertyList(VBON_H5(origin, H5Pcreate, kind)); }

herr_t collect_name(hid_t, const char* name, const H5L_info_t*, void* target) {
  auto& names = *static_cast<std::vector<std::string>*>(target);
  names.emplace_back(name);
  return names.size() < kMaxNames ? 0 : -1;
}

}  // namespace detail::h5

void detail::close_h5_file(std::int64_t id) noexcept { h5::close_quietly<H5Fclose>(id); }
void detail::close_h5_group(std::int64_t id) noexcept { h5::close_quietly<H5Gclose>(id); }
void detail::close_h5_dataset(std::int64_t id) noexcept { h5::close_quietly<H5Dclose>(id); }

}  // namespace vbon
