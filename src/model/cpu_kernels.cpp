#include "vbon/model/cpu_kernels.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

// One body, three instruction sets; the loader picks (ifunc). Sanitizers run before ifuncs can be resolved.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define VBON_MULTIVERSION __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define VBON_MULTIVERSION
#endif
#define VBON_ALWAYS_INLINE __attribute__((always_inline))
#define VBON_INLINE inline VBON_ALWAYS_INLINE

namespace vbon::kernels {
namespace {

constexpr float kNoScore = -1e30f;    // far below any score, far above what overflows
constexpr std::int64_t kBlock = 512;  // logits a block: stays in the first-level cache between its two loops

// exp(x) for x <= 0, relative error below 2e-7; 0 below -87. Branch-free, so loops over it become vector code.
VBON_INLINE float exp_negative(float x) {
  const float clamped = std::max(x, -87.0f);
  const float n = std::floor(clamped * 1.44269504f + 0.5f);
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const float power = std::bit_cast<float>((static_cast<std::int32_t>(n) + 127) << 23);
  return x < -87.0f ? 0.0f : p * power;
}

VBON_INLINE float block_max(const float* z, std::int64_t n) {
  float top = z[0];
#pragma omp simd reduction(max : top)
  for (std::int64_t i = 0; i < n; ++i) top = std::max(top, z[i]);
  return top;
}

VBON_INLINE float block_sum(const float* z, std::int64_t n, float top, float inverse_temperature) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < n; ++i) sum += exp_negative((z[i] - top) * inverse_temperature);
  return sum;
}

// A running sum of exp((z - top) / T) * weight whose maximum may still rise.
struct Running {
  double top = -std::numeric_limits<double>::infinity();
  double sum = 0, sum_z = 0, sum_difference = 0;

  void add(double block_top, double block_sum, double block_z, double block_difference, double inverse_temperature) {
    if (block_top > top) {
      const double shrink = std::exp((top - block_top) * inverse_temperature);  // 0 at first
      sum *= shrink;
      sum_z *= shrink;
      sum_difference *= shrink;
      top = block_top;
    }
    const double weight = std::exp((block_top - top) * inverse_temperature);
    sum += weight * block_sum;
    sum_z += weight * block_z;
    sum_difference += weight * block_difference;
  }
};

}  // namespace

VBON_MULTIVERSION
RowStatistics row_statistics(const float* z, const float* z_ref, std::int64_t vocab, float inverse_temperature,
                             std::int64_t token) {
  Running policy, reference;
  for (std::int64_t begin = 0; begin < vocab; begin += kBlock) {
    const std::int64_t n = std::min(kBlock, vocab - begin);
    const float* block = z + begin;
    const float top = block_max(block, n);
    float sum = 0, sum_z = 0, sum_difference = 0;
    if (z_ref != nullptr) {
      const float* ref = z_ref + begin;
#pragma omp simd reduction(+ : sum, sum_z, sum_difference)
      for (std::int64_t i = 0; i < n; ++i) {
        const float e = exp_negative((block[i] - top) * inverse_temperature);
        sum += e;
        sum_z += e * (block[i] - top);
        sum_difference += e * (block[i] - ref[i]);
      }
      const float ref_top = block_max(ref, n);
      reference.add(ref_top, block_sum(ref, n, ref_top, inverse_temperature), 0, 0, inverse_temperature);
    } else {
#pragma omp simd reduction(+ : sum, sum_z)
      for (std::int64_t i = 0; i < n; ++i) {
        const float e = exp_negative((block[i] - top) * inverse_temperature);
        sum += e;
        sum_z += e * (block[i] - top);
      }
    }
    policy.add(top, sum, sum_z + sum * top, sum_difference, inverse_temperature);
  }
  RowStatistics stats;
  const double inverse = inverse_temperature;
  stats.log_sum = policy.top * inverse + std::log(policy.sum);
  stats.logp = z[token] * inverse - stats.log_sum;
  stats.entropy = stats.log_sum - policy.sum_z / policy.sum * inverse;
  if (z_ref != nullptr) {
    stats.log_sum_ref = reference.top * inverse + std::log(reference.sum);
    stats.logp_ref = z_ref[token] * inverse - stats.log_sum_ref;
    stats.kl = policy.sum_difference / policy.sum * inverse - (stats.log_sum - stats.log_sum_ref);
  }
  return stats;
}

VBON_MULTIVERSION
void row_gradient(float* z, const float* z_ref, std::int64_t vocab, float inverse_temperature, std::int64_t token,
                  const RowStatistics& stats, float c_logp, float c_kl, float c_entropy) {
  const float log_sum = static_cast<float>(stats.log_sum);
  const float log_sum_ref = static_cast<float>(stats.log_sum_ref);
  const float kl = static_cast<float>(stats.kl), entropy = static_cast<float>(stats.entropy);
  const float t = inverse_temperature;
  // d logp_y = 1[v = y] - p_v;  d KL = p_v (log p_v - log q_v - KL);  d H = -p_v (log p_v + H)
  if (z_ref != nullptr) {
#pragma omp simd
    for (std::int64_t v = 0; v < vocab; ++v) {
      const float logp = z[v] * t - log_sum;
      const float logq = z_ref[v] * t - log_sum_ref;
      z[v] =
          t * exp_negative(std::min(logp, 0.0f)) * (c_kl * (logp - logq - kl) - c_entropy * (logp + entropy) - c_logp);
    }
  } else {
#pragma omp simd
    for (std::int64_t v = 0; v < vocab; ++v) {
      const float logp = z[v] * t - log_sum;
      z[v] = t * exp_negative(std::min(logp, 0.0f)) * (-c_entropy * (logp + entropy) - c_logp);
    }
  }
  z[token] += t * c_logp;
}

VBON_MULTIVERSION
Draw row_draw(const float* z, std::int64_t vocab, float inverse_temperature, double u) {
  // First pass: every block's maximum and sum; then the block that holds the u-quantile; then the token in it.
  constexpr std::int64_t kMaxBlocks = 1024;  // 512 Ki tokens
  std::array<float, kMaxBlocks> tops;        // NOLINT: written before read
  std::array<double, kMaxBlocks> masses;
  const std::int64_t num_blocks = (vocab + kBlock - 1) / kBlock;
  if (num_blocks > kMaxBlocks) return {-1, 0};
  float top = -std::numeric_limits<float>::infinity();
  for (std::int64_t b = 0; b < num_blocks; ++b) {
    const std::int64_t n = std::min(kBlock, vocab - b * kBlock);
    tops[static_cast<std::size_t>(b)] = block_max(z + b * kBlock, n);
    masses[static_cast<std::size_t>(b)] =
        block_sum(z + b * kBlock, n, tops[static_cast<std::size_t>(b)], inverse_temperature);
    top = std::max(top, tops[static_cast<std::size_t>(b)]);
  }
  double total = 0;
  for (std::int64_t b = 0; b < num_blocks; ++b) {
    const auto i = static_cast<std::size_t>(b);
    masses[i] *= std::exp((static_cast<double>(tops[i]) - top) * inverse_temperature);
    total += masses[i];
  }
  double left = u * total;
  std::int64_t block = 0;
  while (block + 1 < num_blocks && left >= masses[static_cast<std::size_t>(block)])
    left -= masses[static_cast<std::size_t>(block++)];
  const std::int64_t begin = block * kBlock, end = std::min(begin + kBlock, vocab);
  std::int64_t token = -1;
  for (std::int64_t v = begin; v < end; ++v) {
    const double mass = std::exp((static_cast<double>(z[v]) - top) * inverse_temperature);
    if (mass > 0) token = v;  // rounding may leave a remainder: the last token that has any mass takes it
    left -= mass;
    if (left < 0 && token >= 0) break;
  }
  if (token < 0) token = static_cast<std::int64_t>(std::max_element(z + begin, z + end) - z);
  const double log_sum = static_cast<double>(top) * inverse_temperature + std::log(total);
  return {token, static_cast<double>(z[token]) * inverse_temperature - log_sum};
}

namespace {

using Lane = float __attribute__((vector_size(kLane * sizeof(float))));  // one register of AVX-512, two of AVX2

VBON_INLINE void load(Lane& to, const float* from) { std::memcpy(&to, from, sizeof(Lane)); }
VBON_INLINE void store(float* to, const Lane& from) { std::memcpy(to, &from, sizeof(Lane)); }

// scores [G, width] at the positions of one span, a lane at a time: every key is read once for G queries. Positions
// from span.length to the end of the last lane get a score whose exponential is 0.
template <std::int64_t G>
VBON_INLINE void span_scores(const float* q, std::int64_t head_dim, float scale, const KeySpan& span, float* scores,
                             std::int64_t width) {
  for (std::int64_t begin = 0; begin < span.length; begin += kLane) {
    Lane sums[static_cast<std::size_t>(G)] = {};
    for (std::int64_t i = 0; i < head_dim; ++i) {
      Lane keys;
      load(keys, span.keys_t + i * span.stride + begin);
      for (std::int64_t g = 0; g < G; ++g) sums[g] += keys * q[g * head_dim + i];
    }
    for (std::int64_t g = 0; g < G; ++g) {
      store(scores + g * width + begin, sums[g] * scale);
      for (std::int64_t j = span.length - begin; j < kLane; ++j) scores[g * width + begin + j] = kNoScore;
    }
  }
}

// out [G, head_dim] += weights [G, width] x values, over dimensions [from, from + kLane).
template <std::int64_t G>
VBON_INLINE void span_values(const float* weights, std::int64_t width, std::int64_t head_dim, const KeySpan& span,
                             std::int64_t from, Lane* sums) {
  for (std::int64_t j = 0; j < span.length; ++j) {
    Lane value;
    load(value, span.values + j * head_dim + from);
    for (std::int64_t g = 0; g < G; ++g) sums[g] += value * weights[g * width + j];
  }
}

template <std::int64_t G>
VBON_INLINE void attend_group(const float* q, std::int64_t head_dim, float scale, const KeySpan& prefix,
                              const KeySpan& suffix, float* scratch, float* out) {
  const std::int64_t before = in_lanes(prefix.length), width = before + in_lanes(suffix.length);
  span_scores<G>(q, head_dim, scale, prefix, scratch, width);
  span_scores<G>(q, head_dim, scale, suffix, scratch + before, width);
  float inverse[static_cast<std::size_t>(G)];
  for (std::int64_t g = 0; g < G; ++g) {
    float* scores = scratch + g * width;
    const float top = block_max(scores, width);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t j = 0; j < width; ++j) {
      scores[j] = exp_negative(scores[j] - top);
      sum += scores[j];
    }
    inverse[g] = 1.0f / sum;
  }
  std::int64_t from = 0;
  for (; from + kLane <= head_dim; from += kLane) {
    Lane sums[static_cast<std::size_t>(G)] = {};
    span_values<G>(scratch, width, head_dim, prefix, from, sums);
    span_values<G>(scratch + before, width, head_dim, suffix, from, sums);
    for (std::int64_t g = 0; g < G; ++g) store(out + g * head_dim + from, sums[g] * inverse[g]);
  }
  for (; from < head_dim; ++from) {  // heads that are no whole number of lanes
    for (std::int64_t g = 0; g < G; ++g) {
      const float* weights = scratch + g * width;
      float sum = 0;
      for (std::int64_t j = 0; j < prefix.length; ++j) sum += weights[j] * prefix.values[j * head_dim + from];
      for (std::int64_t j = 0; j < suffix.length; ++j) sum += weights[before + j] * suffix.values[j * head_dim + from];
      out[g * head_dim + from] = sum * inverse[g];
    }
  }
}

}  // namespace

VBON_MULTIVERSION
void attend_row(const float* q, std::int64_t group, std::int64_t head_dim, float scale, KeySpan prefix, KeySpan suffix,
                float* scratch, float* out) {
  std::int64_t g = 0;
  for (; g + 4 <= group; g += 4)
    attend_group<4>(q + g * head_dim, head_dim, scale, prefix, suffix, scratch, out + g * head_dim);
  q += g * head_dim;
  out += g * head_dim;
  switch (group - g) {
    case 3: attend_group<3>(q, head_dim, scale, prefix, suffix, scratch, out); break;
    case 2: attend_group<2>(q, head_dim, scale, prefix, suffix, scratch, out); break;
    case 1: attend_group<1>(q, head_dim, scale, prefix, suffix, scratch, out); break;
    default: break;
  }
}

VBON_MULTIVERSION
void rms_norm_row(const float* x, const float* weight, std::int64_t n, float eps, float* out) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  const float scale = 1.0f / std::sqrt(sum / static_cast<float>(n) + eps);
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) out[i] = weight[i] * (x[i] * scale);
}

VBON_MULTIVERSION
void rope_row(const float* x, const float* cos, const float* sin, std::int64_t heads, std::int64_t head_dim,
              std::int64_t half, float* out) {
  for (std::int64_t h = 0; h < heads; ++h) {
    const float *first = x + h * head_dim, *second = first + half;
    float* to = out + h * head_dim;
#pragma omp simd
    for (std::int64_t i = 0; i < half; ++i) {
      const float a = first[i], b = second[i];
      to[i] = a * cos[i] - b * sin[i];
      to[half + i] = b * cos[i] + a * sin[i];
    }
    std::copy(first + 2 * half, first + head_dim, to + 2 * half);
  }
}

namespace {

constexpr std::int64_t kLanes = kPanel / kLane, kRows = 8;  // 8 x 3 sums, 3 weights and a number of x: 28 registers
constexpr std::int64_t kDeep = 192;  // rows of a panel that stay in the first-level cache for all rows of x

// R rows of x [R, depth] by part of a panel [depth, kPanel], added to out unless `first`. Of the part that follows,
// lanes part, part + parts ... are fetched.
template <std::int64_t R>
VBON_INLINE void rows_by_panel(const float* x, std::int64_t x_stride, std::int64_t depth, const float* panel,
                               const float* next, std::int64_t part, std::int64_t parts, const float* bias, bool first,
                               float* out, std::int64_t out_stride) {
  Lane sums[static_cast<std::size_t>(R)][kLanes];
  for (std::int64_t r = 0; r < R; ++r)
    for (std::int64_t j = 0; j < kLanes; ++j) {
      if (!first) load(sums[r][j], out + r * out_stride + j * kLane);
      else if (bias != nullptr) load(sums[r][j], bias + j * kLane);
      else sums[r][j] = Lane{};
    }
  for (std::int64_t k = 0; k < depth; ++k) {
    Lane weights[kLanes];
    for (std::int64_t j = 0; j < kLanes; ++j) load(weights[j], panel + k * kPanel + j * kLane);
    for (std::int64_t j = part; j < kLanes; j += parts) __builtin_prefetch(next + k * kPanel + j * kLane, 0, 2);
    for (std::int64_t r = 0; r < R; ++r)
      for (std::int64_t j = 0; j < kLanes; ++j) sums[r][j] += weights[j] * x[r * x_stride + k];
  }
  for (std::int64_t r = 0; r < R; ++r)
    for (std::int64_t j = 0; j < kLanes; ++j) store(out + r * out_stride + j * kLane, sums[r][j]);
}

}  // namespace

void pack_panel(const float* weight, std::int64_t count, std::int64_t in, float* panel) {
  for (std::int64_t k = 0; k < in; ++k)
    for (std::int64_t c = 0; c < kPanel; ++c) panel[k * kPanel + c] = c < count ? weight[c * in + k] : 0.0f;
}

VBON_MULTIVERSION
void panel_product(const float* x, std::int64_t n, std::int64_t x_stride, std::int64_t in, const float* panel,
                   const float* next, const float* bias, float* out, std::int64_t out_stride) {
  const std::int64_t blocks = (n + kRows - 1) / kRows, parts = std::min(blocks, kLanes);
  for (std::int64_t k = 0; k < in; k += kDeep) {
    const std::int64_t depth = std::min(kDeep, in - k);
    // A last part may be shorter than this one, and then a little beyond it is fetched: harmless, and never read.
    const float* following = k + kDeep < in ? panel + (k + kDeep) * kPanel : next;
    for (std::int64_t b = 0; b < blocks; ++b) {
      const auto rows = [&]<std::int64_t R>() VBON_ALWAYS_INLINE {
        rows_by_panel<R>(x + b * kRows * x_stride + k, x_stride, depth, panel + k * kPanel, following,
                         b < kLanes ? b : kLanes, parts, bias, k == 0, out + b * kRows * out_stride, out_stride);
      };
      switch (std::min(kRows, n - b * kRows)) {
        case 8: rows.template operator()<8>(); break;
        case 7: rows.template operator()<7>(); break;
        case 6: rows.template operator()<6>(); break;
        case 5: rows.template operator()<5>(); break;
        case 4: rows.template operator()<4>(); break;
        case 3: rows.template operator()<3>(); break;
        case 2: rows.template operator()<2>(); break;
        default: rows.template operator()<1>(); break;
      }
    }
  }
}

VBON_MULTIVERSION
void silu_gate_row(const float* gate, const float* up, std::int64_t n, float* out) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const float x = gate[i];
    const float e = exp_negative(-std::fabs(x));  // silu(x) = x sigmoid(x), from the side that cannot overflow
    out[i] = x * (x < 0 ? e : 1.0f) / (1.0f + e) * up[i];
  }
}

}  // namespace vbon::kernels
