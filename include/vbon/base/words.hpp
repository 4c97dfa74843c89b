// Small helpers on words: the nearest known name for a typing error, lists in messages, durations and sizes for people.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vbon {

std::size_t edit_distance(std::string_view a, std::string_view b);  // Levenshtein, bytes
// The candidate nearest to `name`, or "" when none is near enough to be meant.
std::string nearest_name(std::string_view name, std::span<const std::string> candidates);
std::string joined(std::span<const std::string> parts, std::string_view separator = ", ");
std::vector<std::string> split(std::string_view text, char separator);
std::string_view trimmed(std::string_view text);                  // without blanks at both ends
std::string counted(std::int64_t number, std::string_view noun);  // 1 rank, 3 ranks
std::string human_bytes(std::uint64_t bytes);                     // 1.5 GiB
std::string human_seconds(double seconds);                        // 1h02m, 3m20s, 4.2s
bool is_valid_utf8(std::string_view text);

}  // namespace vbon
