// The loops that ATen has no single pass for, on float32 rows in CPU memory: statistics and gradient of a softmax over
// the vocabulary, a draw from it, attention of one token over its caches, and the steps between matrix products.
// Compiled for several instruction sets; the machine picks one at start.
//
// Callers split rows over threads. Sums run in float32 within blocks of the vocabulary and in double across them.
#pragma once

#include <cstdint>

namespace vbon::kernels {

// Of softmax(z / T) for one row z [V], and of its reference row when there is one.
struct RowStatistics {
  double log_sum = 0;  // log sum exp(z / T)
  double log_sum_ref = 0;
  double logp = 0;  // log-probability of the row's token
  double logp_ref = 0;
  double kl = 0;  // sum_v p_v (log p_v - log q_v)
  double entropy = 0;
};

RowStatistics row_statistics(const float* z, const float* z_ref, std::int64_t vocab, float inverse_temperature,
                             std::int64_t token);

// z becomes the gradient with respect to z of  c_logp logp + c_kl kl + c_entropy entropy.
void row_gradient(float* z, const float* z_ref, std::int64_t vocab, float inverse_temperature, std::int64_t token,
                  const RowStatistics& stats, float c_logp, float c_kl, float c_entropy);

struct Draw {
  std::int64_t token = 0;
  double logp = 0;
};
// Inverse-CDF draw from softmax(z / T) with uniform u in [0, 1).
Draw row_draw(const float* z, std::int64_t vocab, float inverse_temperature, double u);

// Attention reads keys kLane positions at a time, so the stride of transposed keys is a multiple of it.
constexpr std::int64_t kLane = 16;
constexpr std::int64_t in_lanes(std::int64_t n) { return (n + kLane - 1) / kLane * kLane; }

// One query group over its caches: q [G, d]; keys transposed [d, stride] and values [length, d] of a shared prefix,
// then of the sequence's own suffix; out [G, d]. Keys from `length` to the end of its lane are read and not used: they
// must be finite. scratch: 4 * (in_lanes(prefix.length) + in_lanes(suffix.length)) floats.
struct KeySpan {
  const float* keys_t = nullptr;  // [d, stride]
  const float* values = nullptr;  // [length, d]
  std::int64_t length = 0, stride = 0;
};
void attend_row(const float* q, std::int64_t group, std::int64_t head_dim, float scale, KeySpan prefix, KeySpan suffix,
                float* scratch, float* out);

// out = x / sqrt(mean(x^2) + eps) * weight, of one row [n].
void rms_norm_row(const float* x, const float* weight, std::int64_t n, float eps, float* out);
// Rotates the first 2 * half numbers of each of `heads` heads [d] of one row by halves; the rest is copied.
void rope_row(const float* x, const float* cos, const float* sin, std::int64_t heads, std::int64_t head_dim,
              std::int64_t half, float* out);
// out = silu(gate) * up, of one row [n].
void silu_gate_row(const float* gate, const float* up, std::int64_t n, float* out);

// Products by panels: kPanel rows of a weight [out, in] lie transposed, [in, kPanel], so that a step reads them once,
// in order, whatever the number of rows that it multiplies. A row's sums do not depend on the other rows.
constexpr std::int64_t kPanel = 3 * kLane;
constexpr std::int64_t in_panels(std::int64_t n) { return (n + kPanel - 1) / kPanel; }
// Rows [count, in] of a weight, count <= kPanel, to a panel [in, kPanel]; missing columns become zeros.
void pack_panel(const float* weight, std::int64_t count, std::int64_t in, float* panel);
// out [n, kPanel] = x [n, in] * panel + bias [kPanel] (nullptr: none), by rows x_stride and out_stride apart. `next` is
// the panel that the caller multiplies by after this one, fetched meanwhile (or this one again).
void panel_product(const float* x, std::int64_t n, std::int64_t x_stride, std::int64_t in, const float* panel,
                   const float* next, const float* bias, float* out, std::int64_t out_stride);

}  // namespace vbon::kernels
