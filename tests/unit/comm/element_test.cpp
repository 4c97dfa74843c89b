#include "vbon/comm/element.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "vbon/base/rng.hpp"

namespace vbon::comm {
namespace {

// The value of a half by its definition.
double half_value(std::uint32_t bits) {
  const double sign = (bits & 0x8000u) != 0 ? -1.0 : 1.0;
  const int exponent = static_cast<int>((bits >> 10) & 0x1Fu);
  const double fraction = static_cast<double>(bits & 0x3FFu) / 1024.0;
  if (exponent == 31) return fraction == 0.0 ? sign * std::numeric_limits<double>::infinity() : std::nan("");
  return exponent == 0 ? sign * std::ldexp(fraction, -14) : sign * std::ldexp(1.0 + fraction, exponent - 15);
}

TEST(Float16, every_pattern_has_the_value_of_its_definition_and_comes_back) {
  for (std::uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const Float16 half{static_cast<std::uint16_t>(bits)};
    const double expected = half_value(bits);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(to_float(half)));
      EXPECT_TRUE(std::isnan(to_float(to_float16(to_float(half)))));
      continue;
    }
    EXPECT_EQ(static_cast<double>(to_float(half)), expected) << bits;
    EXPECT_EQ(to_float16(to_float(half)), half) << bits;
  }
}

// Neighbours a < b of a 16-bit format with their bits: floats between them go to the nearer, the middle to the even
// one.
template <class T, class Round>
void expect_rounding(T low, T high, Round round) {
  const double middle = (static_cast<double>(to_float(low)) + static_cast<double>(to_float(high))) / 2;
  const auto at = static_cast<float>(middle);
  ASSERT_EQ(static_cast<double>(at), middle) << "the middle is a float";
  const T even = (low.bits & 1u) == 0 ? low : high;
  EXPECT_EQ(round(at), even) << low.bits;
  EXPECT_EQ(round(std::nextafter(at, 0.0f)), low) << low.bits;
  EXPECT_EQ(round(std::nextafter(at, std::numeric_limits<float>::infinity())), high) << low.bits;
  EXPECT_EQ(round(-at).bits, even.bits | 0x8000u) << low.bits;
}

TEST(Float16, floats_round_to_the_nearest_and_to_even_in_the_middle) {
  for (std::uint16_t bits = 0; bits < 0x7BFFu; ++bits)
    expect_rounding(Float16{bits}, Float16{static_cast<std::uint16_t>(bits + 1)},
                    [](float x) { return to_float16(x); });
  EXPECT_EQ(to_float16(65519.996f).bits, 0x7BFFu);
  EXPECT_EQ(to_float16(65520.0f).bits, 0x7C00u) << "the middle between the largest half and 2^16 goes to infinity";
  EXPECT_EQ(to_float16(-1e30f).bits, 0xFC00u);
  EXPECT_EQ(to_float16(std::numeric_limits<float>::infinity()).bits, 0x7C00u);
  EXPECT_EQ(to_float16(1e-30f).bits, 0u);
}

TEST(BFloat16, floats_round_to_the_nearest_and_to_even_in_the_middle) {
  for (std::uint16_t bits = 0x0080u; bits < 0x7F7Fu; bits = static_cast<std::uint16_t>(bits + 7))
    expect_rounding(BFloat16{bits}, BFloat16{static_cast<std::uint16_t>(bits + 1)},
                    [](float x) { return to_bfloat16(x); });
  for (std::uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const BFloat16 value{static_cast<std::uint16_t>(bits)};
    if (std::isnan(to_float(value))) EXPECT_TRUE(std::isnan(to_float(to_bfloat16(to_float(value)))));
    else EXPECT_EQ(to_bfloat16(to_float(value)), value);
  }
  const float tiny_nan = std::bit_cast<float>(0x7F800001u);
  EXPECT_TRUE(std::isnan(to_float(to_bfloat16(tiny_nan)))) << "a NaN whose high bits alone would be infinity";
}

TEST(Reduce, bfloat16_sums_are_rounded_once) {
  // 256 + 1 + 1: rounding to 8 bits after each addition would lose both ones.
  const std::vector<BFloat16> a = {to_bfloat16(256.0f)}, b = {to_bfloat16(1.0f)};
  const std::vector<const std::byte*> sources = {reinterpret_cast<const std::byte*>(a.data()),
                                                 reinterpret_cast<const std::byte*>(b.data()),
                                                 reinterpret_cast<const std::byte*>(b.data())};
  BFloat16 out;
  reduce_in_order(sources, reinterpret_cast<std::byte*>(&out), 1, DataType::bfloat16, Reduction::sum);
  EXPECT_EQ(to_float(out), 258.0f);
}

TEST(Reduce, adds_in_the_order_of_the_sources_also_onto_one_of_them) {
  constexpr std::int64_t kCount = 2500;  // more than a tile and no multiple of one
  const RandomStream draws(3, Purpose::subset);
  std::vector<std::vector<float>> inputs(5, std::vector<float>(kCount));
  for (int s = 0; s < 5; ++s)
    for (std::int64_t i = 0; i < kCount; ++i)
      inputs[static_cast<std::size_t>(s)][static_cast<std::size_t>(i)] =
          static_cast<float>(draws.normal(i, s)) * std::pow(10.0f, static_cast<float>(s));
  std::vector<float> expected = inputs[0];
  for (std::size_t s = 1; s < 5; ++s)
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += inputs[s][i];
  std::vector<const std::byte*> sources;
  for (const auto& input : inputs) sources.push_back(reinterpret_cast<const std::byte*>(input.data()));
  reduce_in_order(sources, reinterpret_cast<std::byte*>(inputs[3].data()), kCount, DataType::float32, Reduction::sum);
  EXPECT_EQ(inputs[3], expected);
}

TEST(Reduce, integer_sums_wrap) {
  const std::int32_t big = std::numeric_limits<std::int32_t>::max();
  const std::int32_t one = 1;
  const std::vector<const std::byte*> sources = {reinterpret_cast<const std::byte*>(&big),
                                                 reinterpret_cast<const std::byte*>(&one)};
  std::int32_t out = 0;
  reduce_in_order(sources, reinterpret_cast<std::byte*>(&out), 1, DataType::int32, Reduction::sum);
  EXPECT_EQ(out, std::numeric_limits<std::int32_t>::min());
}

}  // namespace
}  // namespace vbon::comm
