#include "vbon/comm/publish.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include "vbon/base/error.hpp"

namespace vbon::comm {
namespace {

std::uint64_t mix(std::uint64_t sum, std::uint64_t word) {
  sum = (sum ^ word) * 0x9E3779B97F4A7C15ull;  // odd: a bijection for every word
  return sum ^ (sum >> 29);
}

std::uint64_t checksum_of(Collectives& group, std::span<const std::byte> buffer) {
  if (!group.on_device()) return checksum64(buffer);
  constexpr std::size_t kPiece = std::size_t{4} << 20;
  std::vector<std::byte> piece(std::min(buffer.size(), kPiece));
  std::uint64_t sum = mix(0, buffer.size());
  for (std::size_t at = 0; at < buffer.size(); at += kPiece) {
    const auto here = buffer.subspan(at, std::min(buffer.size() - at, kPiece));
    const auto copied = std::span(piece).first(here.size());
    group.copy_to_host(here, copied);
    sum = mix(sum, checksum64(copied));
  }
  return sum;
}

}  // namespace

std::uint64_t checksum64(std::span<const std::byte> bytes) {
  std::array<std::uint64_t, 4> lanes = {1, 2, 3, 4};  // independent, so that the multiplications overlap
  std::size_t at = 0;
  for (; at + 32 <= bytes.size(); at += 32) {
    std::array<std::uint64_t, 4> words;
    std::memcpy(words.data(), bytes.data() + at, 32);
    for (std::size_t k = 0; k < 4; ++k) lanes[k] = mix(lanes[k], words[k]);
  }
  std::array<std::uint64_t, 4> rest = {};
  if (at < bytes.size()) std::memcpy(rest.data(), bytes.data() + at, bytes.size() - at);
  std::uint64_t sum = mix(0, bytes.size());
  for (std::size_t k = 0; k < 4; ++k) sum = mix(sum, mix(lanes[k], rest[k]));
  return sum;
}

std::int64_t publish(Collectives& group, std::span<std::byte> buffer, std::int64_t version, int root,
                     std::string_view what) {
  const auto bytes = static_cast<std::int64_t>(buffer.size());
  const bool mine = group.rank() == root;
  std::array<std::int64_t, 3> header = {version, bytes, 0};
  if (mine) header[2] = std::bit_cast<std::int64_t>(checksum_of(group, buffer));
  group.host().broadcast(std::span<std::int64_t>(header), root, what);
  if (header[1] != bytes)
    throw InternalError(fmt::format("{}: {} sends {} bytes, {} expects {}", what, group.group().place_of(root),
                                    header[1], group.group().place_of(group.rank()), bytes));
  group.broadcast(buffer, root, what);
  if (!mine && std::bit_cast<std::int64_t>(checksum_of(group, buffer)) != header[2])
    throw EnvironmentError("{} version {} from {} arrived damaged at {}", what, header[0], group.group().place_of(root),
                           group.group().place_of(group.rank()));
  return header[0];
}

}  // namespace vbon::comm
