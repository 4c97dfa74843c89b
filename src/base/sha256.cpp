#include "vbon/base/sha256.hpp"

#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <vector>

#include "vbon/base/error.hpp"

namespace vbon {

struct Sha256::Context {
  EVP_MD_CTX* handle = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(handle); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  check(context_->handle != nullptr && EVP_DigestInit_ex(context_->handle, EVP_sha256(), nullptr) == 1, "SHA-256 init");
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

Sha256& Sha256::update(std::span<const std::byte> bytes) {
  check(EVP_DigestUpdate(context_->handle, bytes.data(), bytes.size()) == 1, "SHA-256 update");
  return *this;
}

Sha256& Sha256::update(std::string_view text) { return update(std::as_bytes(std::span(text.data(), text.size()))); }

std::string Sha256::hex() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int length = 0;
  check(EVP_DigestFinal_ex(context_->handle, digest.data(), &length) == 1 && length == 32, "SHA-256 final");
  std::string text;
  for (unsigned int i = 0; i < length; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

std::string sha256_hex(std::string_view text) { return Sha256().update(text).hex(); }

std::string sha256_file(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw_input_error(errno, "open", path.string());
  Sha256 hash;
  std::vector<char> buffer(std::size_t{1} << 20);
  ssize_t got = 0;
  while ((got = ::read(fd, buffer.data(), buffer.size())) > 0)
    hash.update(std::string_view(buffer.data(), static_cast<std::size_t>(got)));
  const int error_number = errno;
  ::close(fd);
  if (got < 0) throw_input_error(error_number, "read", path.string());
  return hash.hex();
}

std::uint64_t sha256_prefix64(std::string_view hex) {
  check(hex.size() >= 16, "a SHA-256 has 64 digits");
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(hex.data(), hex.data() + 16, value, 16);
  check(error == std::errc() && end == hex.data() + 16, "a SHA-256 has hexadecimal digits");
  return value;
}

}  // namespace vbon
