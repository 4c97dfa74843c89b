#include "train/classifier_training.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "train/learner_common.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/rng.hpp"
#include "vbon/comm/agree.hpp"
#include "vbon/model/encoder_weights.hpp"

namespace vbon {
namespace {

constexpr std::int64_t kMaxTrunkBytes = std::int64_t{4} << 30;
constexpr std::int64_t kBatchesSortedTogether = 16;

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

OptimizerConfig optimizer_config(const RewardTrainConfig& t) {
  return {.learning_rate = t.learning_rate,
          .beta1 = 0.9,
          .beta2 = 0.999,
          .weight_decay = t.weight_decay,
          .schedule = Schedule::linear,
          .warmup = t.warmup,
          .clip_norm = t.clip_norm};
}

std::set<const at::Tensor*> frozen_tensors(const Encoder& encoder, std::int64_t first_trained, bool trains_embeddings) {
  std::set<const at::Tensor*> frozen;
  if (!trains_embeddings)
    frozen.insert({&encoder.token_embedding, &encoder.position_embedding, &encoder.type_embedding,
                   &encoder.embedding_norm.weight, &encoder.embedding_norm.bias});
  for (std::int64_t i = 0; i < first_trained; ++i) {
    const EncoderBlock& b = encoder.blocks[idx(i)];
    for (const Linear* l : {&b.qkv, &b.attention_out, &b.mlp_in, &b.mlp_out}) frozen.insert({&l->weight, &l->bias});
    for (const Norm* n : {&b.attention_norm, &b.mlp_norm}) frozen.insert({&n->weight, &n->bias});
  }
  if (encoder.spec.pooling == Pooling::mean) frozen.insert({&encoder.pooler.weight, &encoder.pooler.bias});  // not read
  return frozen;
}

std::vector<NamedParameter> trained_parameters(Encoder& encoder, std::int64_t first_trained, bool trains_embeddings) {
  const std::set<const at::Tensor*> frozen = frozen_tensors(encoder, first_trained, trains_embeddings);
  std::set<const at::Tensor*> seen;
  std::vector<NamedParameter> trained;
  for (const EncoderEntry& entry : weight_table(encoder.spec)) {  // the parts of a fused tensor share one target
    at::Tensor& tensor = entry.target(encoder);
    if (tensor.defined() && !frozen.contains(&tensor) && seen.insert(&tensor).second)
      trained.push_back({entry.name, &tensor});
  }
  return trained;
}

std::int64_t num_tokens(std::span<const TokenRow> rows) {
  return std::accumulate(rows.begin(), rows.end(), std::int64_t{0},
                         [](std::int64_t sum, const TokenRow& row) { return sum + std::ssize(row); });
}

}  // namespace

ClassifierTraining::ClassifierTraining(const RewardConfig& config, const RewardTrainingOptions& options,
                                       comm::Collectives& group)
    : config_(config), options_(options), group_(group), optimizer_config_(optimizer_config(config.train)) {
  const RewardTrainConfig& t = config.train;
  LabelSet labels = read_labels(t.labels), heldout = t.heldout.empty() ? LabelSet{} : read_labels(t.heldout);
  require(t.heldout.empty() || heldout.scores == labels.scores, "'{}' and '{}': one has labels, the other scores",
          t.labels, t.heldout);
  encoder_ = with_head(load_encoder(t.base, options.device), labels.scores ? 1 : 2, options.seed);
  require(!encoder_.spec.independent_labels,
          "'{}' is a multi-label classifier, whose two labels do not exclude each other; give another {}.train.base",
          t.base, options.section);
  const std::int64_t depth = encoder_.num_layers();
  require(t.layers.last <= depth, "{}.train.layers: last {} asks for more blocks than the encoder's {}; write `all`",
          options.section, t.layers.last, depth);
  trains_embeddings_ = t.layers.last == RewardLayers::kAll;
  first_trained_ = trains_embeddings_ ? 0 : depth - t.layers.last;
  text_ = std::make_unique<TextRows>(Tokenizer::load(t.base), encoder_.spec, config.max_length);
  texts_ = encode(std::move(labels), t.labels);
  if (!t.heldout.empty()) heldout_ = encode(std::move(heldout), t.heldout);
  parameters_ = FlatParameters(trained_parameters(encoder_, first_trained_, trains_embeddings_));
  optimizer_ = AdamW(parameters_, optimizer_config_);
}

ClassifierTexts ClassifierTraining::encode(LabelSet labels, const std::string& path) const {
  ClassifierTexts texts{.labels = std::move(labels)};
  double weight = 0;
  for (const LabelRecord& record : texts.labels.records) {
    texts.rows.push_back(text_->encode(record.text));
    weight += record.weight;
  }
  require(weight > 0, "'{}': all weights are 0", path);
  return texts;
}

void ClassifierTraining::prepare() {
  if (trains_embeddings_) return;
  const std::int64_t bytes = num_tokens(texts_.rows) * encoder_.spec.hidden_size * 4;
  if (bytes <= kMaxTrunkBytes) return run_trunk();
  log::info("{:.1f} GiB of frozen activations are too many to keep: they are computed again each epoch",
            static_cast<double>(bytes) / (1 << 30));
}

// Every rank runs a share of the groups, in batches of one shape, and gives what it has to the others: the result does
// not depend on the number of ranks.
void ClassifierTraining::run_trunk() {
  const at::NoGradGuard no_grad;
  const std::int64_t width = encoder_.spec.hidden_size;
  const std::vector<std::vector<std::size_t>> groups = groups_by_length(texts_.rows, *text_, config_.batch);
  std::vector<std::int64_t> begin = {0};  // tokens before each group
  offset_.resize(texts_.rows.size());
  for (const auto& group : groups) {
    begin.push_back(begin.back());
    for (const std::size_t place : group) {
      offset_[place] = begin.back();
      begin.back() += std::ssize(texts_.rows[place]);
    }
  }
  const auto tokens_of = [&](int rank) {
    const Share share = share_of(std::ssize(groups), rank, group_.size());
    return Share{begin[idx(share.begin)], begin[idx(share.end)]};
  };
  const Share mine = share_of(std::ssize(groups), group_.rank(), group_.size()), tokens = tokens_of(group_.rank());
  trunk_ = at::empty({begin.back(), width}, at::kFloat);
  for (std::int64_t g = mine.begin; g < mine.end; ++g) {
    const auto& group = groups[idx(g)];
    const std::int64_t length = text_->padded_length(std::ssize(texts_.rows[group.front()]));
    const PaddedRows padded = pad_rows(texts_.rows, group, config_.batch, length, encoder_.device());
    const at::Tensor hidden =
        run_blocks(encoder_, embed(encoder_, padded.tokens), token_mask(padded.lengths, length), 0, first_trained_)
            .to(at::kCPU);
    for (std::size_t i = 0; i < group.size(); ++i) {
      const std::int64_t size = std::ssize(texts_.rows[group[i]]);
      trunk_.narrow(0, offset_[group[i]], size).copy_(hidden[static_cast<std::int64_t>(i)].narrow(0, 0, size));
    }
  }
  if (group_.size() > 1) {
    std::vector<std::int64_t> counts;
    for (int rank = 0; rank < group_.size(); ++rank)
      counts.push_back((tokens_of(rank).end - tokens_of(rank).begin) * width);
    const at::Tensor own = trunk_.narrow(0, tokens.begin, tokens.end - tokens.begin).clone();
    group_.host().all_gather_v(std::span<const float>(own.const_data_ptr<float>(), idx(own.numel())),
                               std::span<float>(trunk_.mutable_data_ptr<float>(), idx(trunk_.numel())), counts,
                               "frozen activations");
  }
  trunk_ = trunk_.to(encoder_.device());
}

at::Tensor ClassifierTraining::trunk_of(std::span<const std::size_t> places, const PaddedRows& padded,
                                        const at::Tensor& mask) const {
  const std::int64_t rows = padded.tokens.size(0), length = padded.tokens.size(1);
  if (!trunk_.defined()) {
    const at::AutoGradMode mode(trains_embeddings_);
    return run_blocks(encoder_, embed(encoder_, padded.tokens), mask, 0, first_trained_);
  }
  std::vector<std::int64_t> from(idx(rows * length), 0);  // padding: any token, nothing looks at it
  for (std::size_t i = 0; i < places.size(); ++i)
    std::iota(from.begin() + static_cast<std::ptrdiff_t>(i) * length,
              from.begin() + static_cast<std::ptrdiff_t>(i) * length + std::ssize(texts_.rows[places[i]]),
              offset_[places[i]]);
  return trunk_.index_select(0, at::tensor(from, at::kLong).to(encoder_.device())).view({rows, length, -1});
}

// Weighted sum over the texts: cross-entropy against the label's probability, or squared error against the score.
at::Tensor ClassifierTraining::loss_sum(std::span<const std::size_t> places) const {
  std::size_t longest = 0;
  std::vector<float> labels, weights;
  for (const std::size_t place : places) {
    longest = std::max(longest, texts_.rows[place].size());
    labels.push_back(static_cast<float>(texts_.labels.records[place].value));
    weights.push_back(static_cast<float>(texts_.labels.records[place].weight));
  }
  const PaddedRows padded =
      pad_rows(texts_.rows, places, std::ssize(places), static_cast<std::int64_t>(longest), encoder_.device());
  const at::Tensor mask = token_mask(padded.lengths, padded.tokens.size(1));
  const at::Tensor hidden =
      run_blocks(encoder_, trunk_of(places, padded, mask), mask, first_trained_, encoder_.num_layers());
  const at::Tensor logits = classify(encoder_, hidden, mask);
  const at::Tensor y = at::tensor(labels, at::kFloat).to(logits.device()),
                   w = at::tensor(weights, at::kFloat).to(logits.device());
  if (texts_.labels.scores) return (w * (logits.select(1, 0) - y).square()).sum();
  const at::Tensor logp = at::log_softmax(logits, 1, at::kFloat);
  return -(w * (y * logp.select(1, 1) + (1 - y) * logp.select(1, 0))).sum();
}

std::int64_t ClassifierTraining::updates_per_epoch() const {
  return (std::ssize(texts_.rows) + config_.train.batch - 1) / config_.train.batch;
}

double ClassifierTraining::rate(std::int64_t number) const {
  return learning_rate(optimizer_config_, number, updates());
}

const std::vector<std::size_t>& ClassifierTraining::batch_of(std::int64_t number) {
  order_epoch(number / updates_per_epoch());
  return batches_[idx(number % updates_per_epoch())];
}

// An epoch is a keyed permutation; within stretches of some batches texts are sorted by length, so that little of a
// batch is padding, and the batches are drawn in keyed order again.
void ClassifierTraining::order_epoch(std::int64_t epoch) {
  if (epoch == ordered_epoch_) return;
  ordered_epoch_ = epoch;
  const RandomStream texts(options_.seed, Purpose::data_order, 2, epoch),
      batches(options_.seed, Purpose::data_order, 3, epoch);
  const std::vector<std::int64_t> permuted = permutation(texts, std::ssize(texts_.rows));
  std::vector<std::size_t> order(permuted.begin(), permuted.end());
  const std::int64_t count = std::ssize(order), batch = config_.train.batch;
  const auto place = [&](std::int64_t i) { return order.begin() + std::min(i, count); };
  for (std::int64_t i = 0; i < count; i += batch * kBatchesSortedTogether)
    std::stable_sort(place(i), place(i + batch * kBatchesSortedTogether),
                     [&](std::size_t a, std::size_t b) { return texts_.rows[a].size() < texts_.rows[b].size(); });
  batches_.clear();
  for (const std::int64_t i : permutation(batches, updates_per_epoch()))
    batches_.emplace_back(place(i * batch), place((i + 1) * batch));
}

double ClassifierTraining::update(std::int64_t number) {
  const std::vector<std::size_t>& batch = batch_of(number);
  double weight = 0;
  for (const std::size_t place : batch) weight += texts_.labels.records[place].weight;
  if (weight == 0) return 0;
  const Share share = share_of(std::ssize(batch), group_.rank(), group_.size());
  const std::span<const std::size_t> mine = std::span(batch).subspan(idx(share.begin), idx(share.end - share.begin));
  double loss = 0;
  for (std::size_t begin = 0; begin < mine.size(); begin += idx(config_.train.micro_batch)) {
    const auto part = mine.subspan(begin, std::min(mine.size() - begin, idx(config_.train.micro_batch)));
    const at::Tensor sum = loss_sum(part);
    (sum / weight).backward();
    loss += sum.item<double>();
  }
  at::Tensor& gradients = parameters_.gradients();
  if (group_.size() > 1)
    group_.all_reduce(std::span<float>(gradients.mutable_data_ptr<float>(), idx(gradients.numel())),
                      comm::Reduction::sum, "gradients");
  loss = comm::sum_of(group_.host(), loss, "loss") / weight;
  const double norm = optimizer_.clip();
  require(std::isfinite(loss) && std::isfinite(norm),
          "loss or gradient are not finite at update {} of {}: lower {}.train.learning_rate, or look at the labels",
          number + 1, updates(), options_.section);
  optimizer_.step(rate(number));
  parameters_.zero_gradients();
  return loss;
}

std::vector<double> ClassifierTraining::heldout_predictions() {
  const Share mine = share_of(std::ssize(heldout_.rows), group_.rank(), group_.size());
  const auto rows = std::span(heldout_.rows).subspan(idx(mine.begin), idx(mine.end - mine.begin));
  const at::Tensor logits = classifier_logits(encoder_, rows, *text_, config_.batch).to(at::kDouble);
  std::vector<double> own;
  for (std::int64_t i = 0; i < logits.size(0); ++i) {
    const at::Tensor row = logits[i];
    own.push_back(heldout_.labels.scores ? row[0].item<double>() : row[1].item<double>() - row[0].item<double>());
  }
  return group_.all_gather_v(std::span<const double>(own), "held-out predictions").values;
}

}  // namespace vbon
