#include "vbon/comm/element.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "vbon/base/error.hpp"

namespace vbon::comm {
namespace {

constexpr std::int64_t kTile = 1024;  // elements: a tile of every type stays in the first-level cache

struct Add {
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>) {
      using U = std::make_unsigned_t<T>;
      return static_cast<T>(static_cast<U>(static_cast<U>(a) + static_cast<U>(b)));
    } else {
      return a + b;
    }
  }
};
// The comparison with itself lets a NaN of `a` win; one of `b` wins because it compares false.
struct Max {
  template <class T>
  T operator()(T a, T b) const {
    return (a > b || a != a) ? a : b;
  }
};
struct Min {
  template <class T>
  T operator()(T a, T b) const {
    return (a < b || a != a) ? a : b;
  }
};

// Wire is what memory holds, Sum what is computed with.
template <class Wire>
struct Plain {
  using Sum = Wire;
  static Sum load(Wire value) { return value; }
  static Wire store(Sum value) { return value; }
};
struct Brain {
  using Sum = float;
  static float load(BFloat16 value) { return to_float(value); }
  static BFloat16 store(float value) { return to_bfloat16(value); }
};
struct Half {
  using Sum = float;
  static float load(Float16 value) { return to_float(value); }
  static Float16 store(float value) { return to_float16(value); }
};

template <class Wire, class Codec, class Op>
void reduce_tiles(std::span<const std::byte* const> sources, std::byte* destination, std::int64_t count, Op op) {
  std::array<typename Codec::Sum, kTile> sums;
  auto* out = reinterpret_cast<Wire*>(destination);
  for (std::int64_t begin = 0; begin < count; begin += kTile) {
    const auto n = static_cast<std::size_t>(std::min(kTile, count - begin));
    const auto* first = reinterpret_cast<const Wire*>(sources[0]) + begin;
    for (std::size_t i = 0; i < n; ++i) sums[i] = Codec::load(first[i]);
    for (const std::byte* source : sources.subspan(1)) {
      const auto* values = reinterpret_cast<const Wire*>(source) + begin;
      for (std::size_t i = 0; i < n; ++i) sums[i] = op(sums[i], Codec::load(values[i]));
    }
    for (std::size_t i = 0; i < n; ++i) out[begin + static_cast<std::int64_t>(i)] = Codec::store(sums[i]);
  }
}

template <class Wire, class Codec = Plain<Wire>>
void reduce_type(std::span<const std::byte* const> sources, std::byte* destination, std::int64_t count, Reduction op) {
  switch (op) {
    case Reduction::sum: return reduce_tiles<Wire, Codec>(sources, destination, count, Add{});
    case Reduction::max: return reduce_tiles<Wire, Codec>(sources, destination, count, Max{});
    case Reduction::min: return reduce_tiles<Wire, Codec>(sources, destination, count, Min{});
  }
}

}  // namespace

float to_float(BFloat16 value) { return std::bit_cast<float>(std::uint32_t{value.bits} << 16); }

BFloat16 to_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (value != value) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16)};
}

float to_float(Float16 value) {
  const std::uint32_t sign = (std::uint32_t{value.bits} & 0x8000u) << 16;
  const std::uint32_t exponent = (value.bits >> 10) & 0x1Fu;
  const std::uint32_t mantissa = value.bits & 0x3FFu;
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000u | (mantissa << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 0x1.0p-24f;  // zero and subnormals, exact
  return sign != 0 ? -magnitude : magnitude;
}

Float16 to_float16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return {static_cast<std::uint16_t>(sign | 0x7E00u)};
  if (magnitude >= 0x477FF000u) return {static_cast<std::uint16_t>(sign | 0x7C00u)};  // rounds to 2^16 or more
  if (magnitude < 0x38800000u) {
    // Below 2^-14 halves are multiples of 2^-24; adding 1/2 makes fp32 round to exactly that.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return {static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3F000000u))};
  }
  const std::uint32_t rounded = magnitude + 0xFFFu + ((magnitude >> 13) & 1u);
  return {static_cast<std::uint16_t>(sign | ((rounded >> 13) - (112u << 10)))};
}

std::size_t size_of(DataType type) {
  switch (type) {
    case DataType::float32:
    case DataType::int32: return 4;
    case DataType::float64:
    case DataType::int64: return 8;
    case DataType::uint8: return 1;
    case DataType::bfloat16:
    case DataType::float16: return 2;
  }
  throw InternalError("unknown data type");
}

std::string_view name_of(DataType type) {
  switch (type) {
    case DataType::float32: return "float32";
    case DataType::float64: return "float64";
    case DataType::int32: return "int32";
    case DataType::int64: return "int64";
    case DataType::uint8: return "uint8";
    case DataType::bfloat16: return "bfloat16";
    case DataType::float16: return "float16";
  }
  return "?";
}

std::string_view name_of(Reduction op) { return op == Reduction::sum ? "sum" : op == Reduction::max ? "max" : "min"; }

void reduce_in_order(std::span<const std::byte* const> sources, std::byte* destination, std::int64_t count,
                     DataType type, Reduction op) {
  check(!sources.empty(), "a reduction has sources");
  switch (type) {
    case DataType::float32: return reduce_type<float>(sources, destination, count, op);
    case DataType::float64: return reduce_type<double>(sources, destination, count, op);
    case DataType::int32: return reduce_type<std::int32_t>(sources, destination, count, op);
    case DataType::int64: return reduce_type<std::int64_t>(sources, destination, count, op);
    case DataType::uint8: return reduce_type<std::uint8_t>(sources, destination, count, op);
    case DataType::bfloat16: return reduce_type<BFloat16, Brain>(sources, destination, count, op);
    case DataType::float16: return reduce_type<Float16, Half>(sources, destination, count, op);
  }
}

}  // namespace vbon::comm
