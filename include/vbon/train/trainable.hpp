// What is trained: a choice of layers, and one flat float32 buffer that holds their parameters, with one for the
// gradients. The model's own tensors are views into it, so one all-reduce, one norm, one optimiser call and one message
// serve all of them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vbon/model/causal_lm.hpp"

namespace vbon {

// `all`, or `last K`: the last K blocks, the final norm, and the head where it is not the embedding.
struct TrainedLayers {
  std::int64_t last = 0;  // 0: all
  static constexpr std::string_view kSyntax = "all | last K";
  static TrainedLayers parse(std::string_view text);  // UserError
  std::string text() const;
  bool operator==(const TrainedLayers&) const = default;
};

struct NamedParameter {
  std::string name;
  at::Tensor* tensor = nullptr;  // owned by a model that outlives the call
};

// Buffers are padded to whole blocks of so many floats: a block is the unit in which norms are summed and optimiser
// states dealt out, and vectorised loops over blocks have no remainder.
inline constexpr std::int64_t kFlatBlock = 16384;

// Tensors of a lower precision are copies: the flat buffer holds their float32 masters, which the optimiser moves and
// refresh() rounds into the tensors; their gradients are added up in float32, micro-batch by micro-batch.
class FlatParameters {
 public:
  FlatParameters() = default;
  enum class Gradients { kept, none };
  // Copies the tensors into one buffer, in order, and makes each of them a leaf whose gradient goes to gradients()
  // (none: no buffer, for copies that are written to but not learned): a float32 tensor and its gradient become views
  // of the buffers. Pieces start at multiples of 64 bytes; the gaps stay zero. The padded buffers go on with zeros up
  // to a multiple of `multiple`.
  explicit FlatParameters(const std::vector<NamedParameter>& parameters, Gradients gradients = Gradients::kept,
                          std::int64_t multiple = kFlatBlock);

  at::Tensor& values() { return values_; }        // [n] float32
  at::Tensor& gradients() { return gradients_; }  // [n] float32
  const at::Tensor& values() const { return values_; }
  const at::Tensor& gradients() const { return gradients_; }
  std::int64_t size() const { return values_.defined() ? values_.numel() : 0; }
  const at::Tensor& padded_values() const { return padded_values_; }
  const at::Tensor& padded_gradients() const { return padded_gradients_; }
  // The tensors, and where in values() each lies.
  const std::vector<at::Tensor>& pieces() const { return pieces_; }
  std::int64_t offset_of(std::size_t piece) const { return offsets_.at(piece); }
  // Floats of the first `count` pieces: where the next one begins.
  std::int64_t size_of_first(std::size_t count) const { return offsets_.at(count); }
  void zero_gradients() { gradients_.zero_(); }
  // To be called when values() were written to: rounds them into tensors of a lower precision. Nothing else to do for
  // float32.
  void refresh();
  bool has_masters() const { return has_masters_; }

  // Called with its number whenever a backward pass has added to a piece's gradient; one listener, empty: none.
  void listen(std::function<void(std::size_t piece)> listener);

 private:
  class Hook;
  struct Hooked;
  void hook();

  at::Tensor values_, gradients_, padded_values_, padded_gradients_;
  std::vector<at::Tensor> pieces_;
  std::vector<std::int64_t> offsets_;  // of each piece, and the end
  std::shared_ptr<Hooked> hooked_;     // shared with the pieces' hooks
  bool has_masters_ = false;
};

// A policy that starts as the reference and shares with it, in memory, everything that is not trained.
struct Policy {
  CausalLm model;
  TrainedLayers layers;
  std::int64_t first_trained_block = 0;  // blocks below are the frozen trunk
  bool has_trunk() const { return first_trained_block > 0; }
};

// Blocks below are the frozen trunk. UserError where `last K` asks for more blocks than there are.
std::int64_t first_trained_block(const LmSpec& spec, TrainedLayers layers);
Policy make_policy(const CausalLm& reference, TrainedLayers layers);
// The layers in which a model differs from another of its shape: all that lies below them is equal, bit by bit, so the
// two share a trunk. At least the last one.
TrainedLayers differing_layers(const CausalLm& reference, const CausalLm& model);
// A policy that is sampled from but not trained here, with the flat layout of the trained one.
struct PolicyCopy {
  Policy policy;
  FlatParameters parameters;
};
std::unique_ptr<PolicyCopy> make_policy_copy(const CausalLm& reference, TrainedLayers layers);
// The tensors that are trained, in the order of the file; each fused tensor once.
std::vector<NamedParameter> trained_parameters(Policy& policy);
// After FlatParameters took the tensors over: the head is the embedding again where they are tied.
void tie_again(CausalLm& model);

}  // namespace vbon
