#include "vbon/train/trainable.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <charconv>
#include <set>

#include "vbon/base/error.hpp"
#include "vbon/base/words.hpp"
#include "vbon/model/hf_weights.hpp"

namespace vbon {
namespace {

constexpr std::int64_t kAlignment = 16;  // floats: 64 bytes

std::int64_t aligned(std::int64_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

TrainedLayers TrainedLayers::parse(std::string_view text) {
  text = trimmed(text);
  if (text == "all") return {0};
  TrainedLayers layers;
  if (text.starts_with("last ")) {
    const std::string_view number = trimmed(text.substr(5));
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), layers.last);
    if (error == std::errc() && end == number.data() + number.size() && layers.last >= 1) return layers;
  }
  throw UserError("'{}' is no choice of layers; write `all` or `last K` with K >= 1", text);
}

std::string TrainedLayers::text() const { return last == 0 ? "all" : fmt::format("last {}", last); }

struct FlatParameters::Hooked {
  std::vector<at::Tensor> gradients;  // of each piece where it is not added to by autograd itself
  std::function<void(std::size_t)> listener;
};

// Autograd calls it when it has added to a piece's gradient.
class FlatParameters::Hook final : public torch::autograd::PostAccumulateGradHook {
 public:
  Hook(std::shared_ptr<Hooked> hooked, std::size_t piece) : hooked_(std::move(hooked)), piece_(piece) {}
  void operator()(const at::Tensor& piece) override {
    if (const at::Tensor& sum = hooked_->gradients[piece_]; sum.defined()) {
      const at::NoGradGuard no_grad;
      sum.add_(piece.grad());
      piece.mutable_grad().reset();
    }
    if (hooked_->listener) hooked_->listener(piece_);
  }

 private:
  std::shared_ptr<Hooked> hooked_;
  std::size_t piece_;
};

FlatParameters::FlatParameters(const std::vector<NamedParameter>& parameters, Gradients gradients,
                               std::int64_t multiple) {
  check(!parameters.empty(), "nothing to train");
  std::int64_t total = 0;
  for (const NamedParameter& p : parameters) total += aligned(p.tensor->numel());
  const auto options = at::TensorOptions(at::kFloat).device(parameters.front().tensor->device());
  const std::int64_t padded = (total + multiple - 1) / multiple * multiple;
  padded_values_ = at::zeros({padded}, options);
  values_ = padded_values_.narrow(0, 0, total);
  if (gradients == Gradients::kept) {
    padded_gradients_ = at::zeros({padded}, options);
    gradients_ = padded_gradients_.narrow(0, 0, total);
  }
  hooked_ = std::make_shared<Hooked>();
  const at::NoGradGuard no_grad;
  std::int64_t offset = 0;
  for (const NamedParameter& p : parameters) {
    const auto shape = p.tensor->sizes().vec();
    const std::int64_t size = p.tensor->numel();
    const auto part = [&](const at::Tensor& flat) { return flat.narrow(0, offset, size).view(shape).detach(); };
    const bool is_float = p.tensor->scalar_type() == at::kFloat;
    part(values_).copy_(*p.tensor);
    at::Tensor piece = is_float ? part(values_) : p.tensor->detach().clone();
    piece.set_requires_grad(true);  // also says that the weights change: the sampler packs such anew
    at::Tensor sum;
    if (gradients == Gradients::kept) {
      if (is_float) piece.mutable_grad() = part(gradients_);
      else sum = part(gradients_);
    }
    has_masters_ = has_masters_ || !is_float;
    hooked_->gradients.push_back(sum);
    *p.tensor = piece;
    pieces_.push_back(piece);
    offsets_.push_back(offset);
    offset += aligned(size);
  }
  offsets_.push_back(offset);
  if (has_masters_ && gradients == Gradients::kept) hook();
}

void FlatParameters::hook() {
  for (std::size_t i = 0; i < pieces_.size(); ++i)
    torch::autograd::impl::set_post_acc_grad_hooks(pieces_[i], std::make_unique<Hook>(hooked_, i));
}

void FlatParameters::listen(std::function<void(std::size_t)> listener) {
  const bool is_hooked = has_masters_ || hooked_->listener;
  hooked_->listener = std::move(listener);
  if (!is_hooked && hooked_->listener) hook();
}

void FlatParameters::refresh() {
  if (!has_masters_) return;
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < pieces_.size(); ++i)
    if (pieces_[i].scalar_type() != at::kFloat)
      pieces_[i].detach().copy_(values_.narrow(0, offsets_[i], pieces_[i].numel()).view(pieces_[i].sizes()));
}

std::int64_t first_trained_block(const LmSpec& spec, TrainedLayers layers) {
  require(layers.last <= spec.num_layers, "layers: last {} asks for more blocks than the model's {}; write `all`",
          layers.last, spec.num_layers);
  return layers.last == 0 ? 0 : spec.num_layers - layers.last;
}

Policy make_policy(const CausalLm& reference, TrainedLayers layers) {
  return {reference, layers, first_trained_block(reference.spec, layers)};
}

std::unique_ptr<PolicyCopy> make_policy_copy(const CausalLm& reference, TrainedLayers layers) {
  auto copy = std::make_unique<PolicyCopy>();
  copy->policy = make_policy(reference, layers);
  copy->parameters = FlatParameters(trained_parameters(copy->policy), FlatParameters::Gradients::none);
  tie_again(copy->policy.model);
  return copy;
}

TrainedLayers differing_layers(const CausalLm& reference, const CausalLm& model) {
  const auto same = [](const at::Tensor& a, const at::Tensor& b) {
    return a.defined() == b.defined() && (!a.defined() || (a.sizes() == b.sizes() && at::equal(a, b)));
  };
  const auto shape = [](LmSpec spec) {
    spec.config_text.clear();
    spec.eos_ids.clear();
    return spec;
  };
  if (shape(reference.spec) != shape(model.spec) || !same(reference.token_embedding, model.token_embedding) ||
      !same(reference.position_embedding, model.position_embedding))
    return {};
  const auto same_block = [&](const Block& a, const Block& b) {
    const auto same_linear = [&](const Linear& x, const Linear& y) {
      return same(x.weight, y.weight) && same(x.bias, y.bias);
    };
    const auto same_norm = [&](const Norm& x, const Norm& y) {
      return same(x.weight, y.weight) && same(x.bias, y.bias);
    };
    return same_norm(a.attention_norm, b.attention_norm) && same_norm(a.mlp_norm, b.mlp_norm) &&
           same_linear(a.qkv, b.qkv) && same_linear(a.attention_out, b.attention_out) &&
           same_linear(a.mlp_in, b.mlp_in) && same_linear(a.mlp_out, b.mlp_out);
  };
  std::size_t equal = 0;
  while (equal + 1 < model.blocks.size() && same_block(reference.blocks[equal], model.blocks[equal])) ++equal;
  return {equal == 0 ? 0 : model.num_layers() - static_cast<std::int64_t>(equal)};
}

std::vector<NamedParameter> trained_parameters(Policy& policy) {
  CausalLm& model = policy.model;
  std::set<const at::Tensor*> frozen;
  if (policy.layers.last != 0) {
    frozen.insert({&model.token_embedding, &model.position_embedding});
    if (model.spec.tied_embeddings) frozen.insert(&model.head);
    for (std::int64_t i = 0; i < policy.first_trained_block; ++i) {
      const Block& b = model.blocks[static_cast<std::size_t>(i)];
      for (const Linear* l : {&b.qkv, &b.attention_out, &b.mlp_in, &b.mlp_out}) frozen.insert({&l->weight, &l->bias});
      for (const Norm* n : {&b.attention_norm, &b.mlp_norm}) frozen.insert({&n->weight, &n->bias});
    }
  }
  std::set<const at::Tensor*> seen;
  std::vector<NamedParameter> trained;
  for (const WeightEntry& entry : weight_table(model.spec)) {  // the parts of a fused tensor share one target
    at::Tensor& tensor = entry.target(model);
    if (!frozen.contains(&tensor) && seen.insert(&tensor).second) trained.push_back({entry.name, &tensor});
  }
  return trained;
}

void tie_again(CausalLm& model) {
  if (model.spec.tied_embeddings) model.head = model.token_embedding;
}

}  // namespace vbon
