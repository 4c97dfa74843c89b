// Activation recomputation: a part of a network that keeps its input for the backward pass and nothing else, and
// computes again what the gradient needs (Chen et al. 2016).
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

namespace vbon {

// f(x), with the gradients of x and of every leaf that `f` uses, to the same bits as without. `f` is called now, and
// once more by the backward pass, on the same values: everything that it refers to must live until then, and it must
// not draw random numbers. One backward pass only. Where gradients are off this is f(x).
at::Tensor recomputed(std::function<at::Tensor(const at::Tensor&)> f, const at::Tensor& x);

}  // namespace vbon
