#include "vbon/model/vocab_head.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <vector>

#include "vbon/base/error.hpp"
#include "vbon/model/cpu_kernels.hpp"
#include "vbon/model/products.hpp"

namespace vbon {
namespace {

using kernels::RowStatistics;

constexpr std::int64_t kColumns = 6;  // of the statistics kept for the gradient

const float* row_or_null(const at::Tensor& matrix, std::int64_t row) {
  return matrix.defined() ? matrix.const_data_ptr<float>() + row * matrix.size(1) : nullptr;
}

// Statistics of every row: double [n, 6], in the order of RowStatistics.
at::Tensor all_row_statistics(const at::Tensor& logits, const at::Tensor& reference, const at::Tensor& tokens,
                              float inverse_temperature) {
  const std::int64_t n = logits.size(0), vocab = logits.size(1);
  at::Tensor result = at::empty({n, kColumns}, at::kDouble);
  double* out = result.mutable_data_ptr<double>();
  const std::int64_t* token = tokens.const_data_ptr<std::int64_t>();
  at::parallel_for(0, n, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const RowStatistics s = kernels::row_statistics(row_or_null(logits, i), row_or_null(reference, i), vocab,
                                                      inverse_temperature, token[i]);
      double* row = out + i * kColumns;
      row[0] = s.log_sum, row[1] = s.log_sum_ref, row[2] = s.logp, row[3] = s.logp_ref, row[4] = s.kl,
      row[5] = s.entropy;
    }
  });
  return result;
}

// Turns logits into d(loss)/d(logits), in place, given d(loss)/d(logp, kl, entropy) of each row.
void logits_to_gradient(at::Tensor& logits, const at::Tensor& reference, const at::Tensor& tokens,
                        const at::Tensor& statistics, float inverse_temperature, const at::Tensor& d_logp,
                        const at::Tensor& d_kl, const at::Tensor& d_entropy) {
  const std::int64_t n = logits.size(0), vocab = logits.size(1);
  float* z = logits.mutable_data_ptr<float>();
  const double* s = statistics.const_data_ptr<double>();
  const std::int64_t* token = tokens.const_data_ptr<std::int64_t>();
  const float *c_logp = d_logp.const_data_ptr<float>(), *c_kl = d_kl.const_data_ptr<float>(),
              *c_entropy = d_entropy.const_data_ptr<float>();
  at::parallel_for(0, n, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const double* row = s + i * kColumns;
      const RowStatistics stats{row[0], row[1], row[2], row[3], row[4], row[5]};
      kernels::row_gradient(z + i * vocab, row_or_null(reference, i), vocab, inverse_temperature, token[i], stats,
                            c_logp[i], c_kl[i], c_entropy[i]);
    }
  });
}

at::Tensor column(const at::Tensor& statistics, std::int64_t index) {
  return statistics.select(1, index).to(at::kFloat);
}

// Outputs: logp, kl, entropy, logp_ref (the last without gradient).
class VocabHead : public torch::autograd::Function<VocabHead> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const at::Tensor& hidden,
                                                const at::Tensor& head, const at::Tensor& tokens, double temperature,
                                                const std::optional<at::Tensor>& reference) {
    const at::Tensor reference_logits = reference.value_or(at::Tensor());
    const auto inverse_temperature = static_cast<float>(1.0 / temperature);
    const at::Tensor logits = product(hidden, head, {});
    const at::Tensor statistics = all_row_statistics(logits, reference_logits, tokens, inverse_temperature);
    context->save_for_backward({hidden, head, tokens});
    context->saved_data["logits"] = logits;
    context->saved_data["statistics"] = statistics;
    context->saved_data["reference"] = reference_logits;
    context->saved_data["inverse_temperature"] = static_cast<double>(inverse_temperature);
    at::Tensor logp_ref = column(statistics, 3);
    context->mark_non_differentiable({logp_ref});
    return {column(statistics, 2), column(statistics, 4), column(statistics, 5), logp_ref};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &hidden = saved[0], &head = saved[1], &tokens = saved[2];
    at::Tensor logits = context->saved_data["logits"].toTensor();
    context->saved_data["logits"] = at::Tensor();  // becomes the gradient below: one backward a forward
    check(logits.defined(), "a vocabulary head can be differentiated once");
    logits_to_gradient(logits, context->saved_data["reference"].toTensor(), tokens,
                       context->saved_data["statistics"].toTensor(),
                       static_cast<float>(context->saved_data["inverse_temperature"].toDouble()),
                       gradients[0].contiguous(), gradients[1].contiguous(), gradients[2].contiguous());
    at::Tensor d_hidden, d_head;
    if (context->needs_input_grad(0)) d_hidden = at::mm(logits, head);
    if (context->needs_input_grad(1)) d_head = at::mm(logits.t(), hidden);
    return {d_hidden, d_head, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

TokenStatistics token_statistics(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& tokens,
                                 double temperature, const at::Tensor& reference_logits) {
  check(temperature > 0, "temperature must be positive");
  check(hidden.dim() == 2 && tokens.dim() == 1 && tokens.size(0) == hidden.size(0), "token_statistics: shapes");
  if (!hidden.device().is_cpu() || hidden.scalar_type() != at::kFloat)
    return token_statistics_by_tensors(hidden, head, tokens, temperature, reference_logits);
  std::optional<at::Tensor> reference;
  if (reference_logits.defined()) reference = reference_logits.contiguous();
  const auto out = VocabHead::apply(hidden, head, tokens.contiguous(), temperature, reference);
  if (!reference) return {out[0], {}, out[2], {}};
  return {out[0], out[1], out[2], out[3]};
}

TokenStatistics token_statistics_by_tensors(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& tokens,
                                            double temperature, const at::Tensor& reference_logits) {
  const at::Tensor logits = at::matmul(hidden, head.t());
  const auto wide = logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor log_p = at::log_softmax(logits.to(wide) / temperature, -1);  // [n, V]
  const at::Tensor p = log_p.exp();
  const at::Tensor picked = tokens.unsqueeze(1);
  TokenStatistics result;
  result.logp = log_p.gather(1, picked).squeeze(1);
  result.entropy = -(p * log_p).sum(-1);
  if (reference_logits.defined()) {
    const at::Tensor log_q = at::log_softmax(reference_logits.detach().to(wide) / temperature, -1);
    result.kl = (p * (log_p - log_q)).sum(-1);
    result.logp_ref = log_q.gather(1, picked).squeeze(1);
  }
  return result;
}

}  // namespace vbon
