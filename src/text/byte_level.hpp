// GPT-2's printable stand-ins for bytes: each of the 256 bytes has a character of its own ("Ġ" for the blank).
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace vbon::text {

// UTF-8 of the character that stands for each byte.
const std::array<std::string, 256>& byte_characters();
// The text in which each byte is replaced by its character.
std::string byte_level(std::string_view bytes);
// The inverse; nothing if a character stands for no byte.
std::optional<std::string> byte_level_inverse(std::string_view text);

}  // namespace vbon::text
