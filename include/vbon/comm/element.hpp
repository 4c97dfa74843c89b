// What collectives carry: element types and reductions, known at compile time to callers and as data to backends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

namespace vbon::comm {

// 16-bit floats by their bits; layout-compatible with the 16-bit types of tensor libraries.
struct BFloat16 {
  std::uint16_t bits = 0;
  bool operator==(const BFloat16&) const = default;
};
struct Float16 {  // IEEE binary16
  std::uint16_t bits = 0;
  bool operator==(const Float16&) const = default;
};

// Rounding to nearest even; NaN stays NaN.
float to_float(BFloat16 value);
float to_float(Float16 value);
BFloat16 to_bfloat16(float value);
Float16 to_float16(float value);

enum class DataType : std::uint8_t { float32, float64, int32, int64, uint8, bfloat16, float16 };
std::size_t size_of(DataType type);  // bytes
std::string_view name_of(DataType type);

// max and min of floats: NaN if any is NaN. Sums of integers wrap.
enum class Reduction : std::uint8_t { sum, max, min };
std::string_view name_of(Reduction op);

template <class T>
struct DataTypeOf;
template <>
struct DataTypeOf<float> {
  static constexpr DataType value = DataType::float32;
};
template <>
struct DataTypeOf<double> {
  static constexpr DataType value = DataType::float64;
};
template <>
struct DataTypeOf<std::int32_t> {
  static constexpr DataType value = DataType::int32;
};
template <>
struct DataTypeOf<std::int64_t> {
  static constexpr DataType value = DataType::int64;
};
template <>
struct DataTypeOf<std::uint8_t> {
  static constexpr DataType value = DataType::uint8;
};
template <>
struct DataTypeOf<std::byte> {
  static constexpr DataType value = DataType::uint8;
};
template <>
struct DataTypeOf<BFloat16> {
  static constexpr DataType value = DataType::bfloat16;
};
template <>
struct DataTypeOf<Float16> {
  static constexpr DataType value = DataType::float16;
};

template <class T>
concept Element = !std::is_const_v<T> && requires {
  DataTypeOf<T>::value;
};

// Spans whose element type became data; device memory stays device memory.
struct ConstView {
  const std::byte* data = nullptr;
  std::int64_t count = 0;
  DataType type = DataType::uint8;
  std::int64_t bytes() const { return count * static_cast<std::int64_t>(size_of(type)); }
};
struct View {
  std::byte* data = nullptr;
  std::int64_t count = 0;
  DataType type = DataType::uint8;
  std::int64_t bytes() const { return count * static_cast<std::int64_t>(size_of(type)); }
  ConstView as_const() const { return {data, count, type}; }
};

template <Element T>
View view_of(std::span<T> values) {
  return {reinterpret_cast<std::byte*>(values.data()), static_cast<std::int64_t>(values.size()), DataTypeOf<T>::value};
}
template <Element T>
ConstView view_of(std::span<const T> values) {
  return {reinterpret_cast<const std::byte*>(values.data()), static_cast<std::int64_t>(values.size()),
          DataTypeOf<T>::value};
}

// destination[i] = sources[0][i] op sources[1][i] op ..., in that order; 16-bit floats are combined in fp32 and rounded
// once. `destination` may be one of the sources. Host memory.
void reduce_in_order(std::span<const std::byte* const> sources, std::byte* destination, std::int64_t count,
                     DataType type, Reduction op);

}  // namespace vbon::comm
