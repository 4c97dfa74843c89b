#include "text/byte_level.hpp"

#include "text/unicode.hpp"

namespace vbon::text {
namespace {

constexpr int kLastCharacter = 0x143;  // 256 + the 68 bytes that are no printable Latin-1 character - 1

constexpr bool stands_for_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

constexpr std::array<int, 256> make_codes() {
  std::array<int, 256> codes = {};
  int next = 256;
  for (int byte = 0; byte < 256; ++byte)
    codes[static_cast<std::size_t>(byte)] = stands_for_itself(byte) ? byte : next++;
  return codes;
}

constexpr std::array<int, 256> kCodes = make_codes();

constexpr std::array<int, kLastCharacter + 1> make_bytes() {
  std::array<int, kLastCharacter + 1> bytes = {};
  for (int& byte : bytes) byte = -1;
  for (int byte = 0; byte < 256; ++byte) bytes[static_cast<std::size_t>(kCodes[static_cast<std::size_t>(byte)])] = byte;
  return bytes;
}

constexpr std::array<int, kLastCharacter + 1> kBytes = make_bytes();

}  // namespace

const std::array<std::string, 256>& byte_characters() {
  static const std::array<std::string, 256> characters = [] {
    std::array<std::string, 256> made;
    for (std::size_t byte = 0; byte < 256; ++byte) append_code_point(made[byte], static_cast<char32_t>(kCodes[byte]));
    return made;
  }();
  return characters;
}

std::string byte_level(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char byte : bytes) text += byte_characters()[static_cast<unsigned char>(byte)];
  return text;
}

std::optional<std::string> byte_level_inverse(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text, at);
    if (point.value > kLastCharacter || kBytes[point.value] < 0) return std::nullopt;
    bytes += static_cast<char>(static_cast<unsigned char>(kBytes[point.value]));
    at += point.length;
  }
  return bytes;
}

}  // namespace vbon::text
