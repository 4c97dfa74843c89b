// SHA-256 (libcrypto), for everything that names content: models, pools, chunks, manifests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace vbon {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  Sha256& update(std::span<const std::byte> bytes);
  Sha256& update(std::string_view text);
  template <class T>
  Sha256& update(std::span<const T> values) {
    return update(std::as_bytes(values));
  }
  std::string hex();  // 64 lower-case digits; ends the computation

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

std::string sha256_hex(std::string_view text);
std::string sha256_file(const std::filesystem::path& path);  // UserError if it cannot be read
std::uint64_t sha256_prefix64(std::string_view hex);         // the first 16 digits as a number (keys of draws)

}  // namespace vbon
