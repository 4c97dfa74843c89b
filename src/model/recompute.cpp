#include "vbon/model/recompute.hpp"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/variable.h>

#include <utility>

#include "vbon/base/error.hpp"

namespace vbon {
namespace {

class Recompute final : public torch::autograd::Node {
 public:
  Recompute(std::function<at::Tensor(const at::Tensor&)> f, at::Tensor x) : f_(std::move(f)), x_(std::move(x)) {}

  torch::autograd::variable_list apply(torch::autograd::variable_list&& gradients) override {
    check(static_cast<bool>(f_), "a recomputed part has one backward pass");
    if (!gradients[0].defined()) return {at::Tensor()};
    const at::AutoGradMode with_gradients(true);
    at::Tensor x = std::exchange(x_, at::Tensor()).detach();
    x.set_requires_grad(task_should_compute_output(0));
    const at::Tensor y = std::exchange(f_, nullptr)(x);
    y.backward(gradients[0]);  // adds to the leaves' gradients, too
    return {x.grad()};
  }
  void release_variables() override {
    f_ = nullptr;
    x_.reset();
  }

 private:
  std::function<at::Tensor(const at::Tensor&)> f_;
  at::Tensor x_;
};

}  // namespace

at::Tensor recomputed(std::function<at::Tensor(const at::Tensor&)> f, const at::Tensor& x) {
  if (!at::GradMode::is_enabled()) return f(x);
  // With gradients on, and what they keep dropped at once: other kernels run where they are off, and round differently.
  const at::Tensor y = f(x.detach()).detach();
  check(y.is_floating_point() && !y.is_alias_of(x), "recomputed: a new tensor of numbers");
  const auto node = std::make_shared<Recompute>(std::move(f), x.detach());
  node->set_next_edges(torch::autograd::collect_next_edges(x));
  torch::autograd::set_history(y, node);
  return y;
}

}  // namespace vbon
