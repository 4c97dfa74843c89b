#include "vbon/base/rng.hpp"

#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

namespace vbon {
namespace {

// SplitMix64's finaliser: a bijection with full avalanche, used to fold the parts of a key into 64 bits.
std::uint64_t mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

double to_unit(std::uint32_t high, std::uint32_t low) {
  const std::uint64_t bits = (std::uint64_t{high} << 21) ^ (std::uint64_t{low} >> 11);  // 53 bits
  return static_cast<double>(bits) * 0x1.0p-53;
}

}  // namespace

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> c, std::array<std::uint32_t, 2> k) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k[0], static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k[1], static_cast<std::uint32_t>(p0)};
    k[0] += 0x9E3779B9u;
    k[1] += 0xBB67AE85u;
  }
  return c;
}

RandomStream::RandomStream(std::uint64_t seed, Purpose purpose, std::uint64_t prompt_set, std::int64_t step) {
  std::uint64_t k = mix(seed);
  k = mix(k ^ static_cast<std::uint64_t>(purpose));
  k = mix(k ^ prompt_set);
  k = mix(k ^ static_cast<std::uint64_t>(step));
  key_ = {static_cast<std::uint32_t>(k), static_cast<std::uint32_t>(k >> 32)};
}

std::array<std::uint32_t, 4> RandomStream::words(std::int64_t prompt_id, std::int32_t sample,
                                                 std::int32_t position) const {
  const auto id = static_cast<std::uint64_t>(prompt_id);
  return philox({static_cast<std::uint32_t>(id), static_cast<std::uint32_t>(id >> 32),
                 static_cast<std::uint32_t>(sample), static_cast<std::uint32_t>(position)},
                key_);
}

double RandomStream::uniform(std::int64_t prompt_id, std::int32_t sample, std::int32_t position) const {
  const auto w = words(prompt_id, sample, position);
  return to_unit(w[0], w[1]);
}

double RandomStream::normal(std::int64_t prompt_id, std::int32_t sample, std::int32_t position) const {
  const auto w = words(prompt_id, sample, position);
  const double radius = std::sqrt(-2.0 * std::log1p(-to_unit(w[0], w[1])));
  return radius * std::cos(2.0 * std::numbers::pi * to_unit(w[2], w[3]));
}

std::int64_t RandomStream::below(std::int64_t bound, std::int64_t prompt_id, std::int32_t sample,
                                 std::int32_t position) const {
  return static_cast<std::int64_t>(uniform(prompt_id, sample, position) * static_cast<double>(bound));
}

std::vector<std::int64_t> permutation(const RandomStream& stream, std::int64_t n, std::int32_t sample) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  for (std::int64_t i = n - 1; i > 0; --i)
    std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(stream.below(i + 1, i, sample))]);
  return order;
}

}  // namespace vbon
