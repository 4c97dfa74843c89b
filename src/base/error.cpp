#include "vbon/base/error.hpp"

#include <cstring>

namespace vbon {

std::string bounded_message(std::string text) {
  constexpr std::string_view kMore = "…";
  if (text.size() <= kMaxMessageBytes) return text;
  std::size_t end = kMaxMessageBytes - kMore.size();
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0u) == 0x80u) --end;  // whole characters only
  return text.replace(end, std::string::npos, kMore);
}

InternalError::InternalError(const std::string& text, std::source_location where)
    : std::logic_error(fmt::format("internal error: {} ({}:{}, {})", text, where.file_name(), where.line(),
                                   where.function_name())) {}

void throw_output_error(int error_number, const std::string& operation, const std::string& path) {
  const char* hint = "";
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG: hint = "; free space (or raise the quota), then run the same command again"; break;
    case EACCES:
    case EPERM:
    case EROFS: hint = "; make the folder writable, then run the same command again"; break;
    default: break;
  }
  throw EnvironmentError("cannot {} '{}': {}{}", operation, path, std::strerror(error_number), hint);
}

void throw_input_error(int error_number, const std::string& operation, const std::string& path) {
  if (error_number == EIO || error_number == ESTALE || error_number == ENOMEM || error_number == EMFILE)
    throw EnvironmentError("cannot {} '{}': {}", operation, path, std::strerror(error_number));
  throw UserError("cannot {} '{}': {}", operation, path, std::strerror(error_number));
}

}  // namespace vbon
