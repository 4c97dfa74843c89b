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
    if (tensor.defined() && !frozen.contains(&tensor) && seen.insert(&tensor).second) trained.push_back({entry.name, &tensor});
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
  texts_.labels = read_labels(t.labels);
  const Encoder base = load_encoder(t.base, options.device);
  encoder_ = with_head(base, texts_.labels.scores ? 1 : 2, options.seed);
  text_ = std::make_unique<TextRows>(Tokenizer::load(t.base), encoder_.spec, config.max_length);
  texts_ = read(t.labels);
  if (!t.heldout.empty()) heldout_ = read(t.heldout);
  require(heldout_.rows.empty() || heldout_.labels.scores == texts_.labels.scores,
          "'{}' and '{}': one has labels, the other scores", t.labels, t.heldout);
  const std::int64_t depth = encoder_.num_layers();
  require(t.layers.last <= depth, "{}.train.layers: last {} asks for more blocks than the encoder's {}; write `all`",
          options.section, t.layers.last, depth);
  trains_embeddings_ = t.layers.last == RewardLayers::kAll;
  first_trained_ = trains_embeddings_ ? 0 : depth - t.layers.last;
  parameters_ = FlatParameters(trained_parameters(encoder_, first_trained_, trains_embeddings_));
  optimizer_ = AdamW(parameters_, optimizer_config_);
}

ClassifierTexts ClassifierTraining::read(const std::string& path) const {
  ClassifierTexts texts{.labels = read_labels(path)};
  for (const LabelRecord& record : texts.labels.records) texts.rows.push_back(text_->encode(record.text));
  double weight = 0;
  for (const LabelRecord& record : texts.labels.records) weight += record.weight;
  require(weight > 0, "'{}': all weights are 0", path);
  return texts;
}

void ClassifierTraining::prepare() {
  if (trains_embeddings_) return;
  const std::int64_t bytes = (num_tokens(texts_.rows) + num_tokens(heldout_.rows)) * encoder_.spec.hidden_size * 4;
  if (bytes > kMaxTrunkBytes) {
    log::info("{:.1f} GiB of frozen activations are too many to keep: they are computed again each epoch",
              static_cast<double>(bytes) / (1 << 30));
    return;
  }
  run_trunk(texts_);
  if (has_heldout()) run_trunk(heldout_);
}

// Every rank runs a share of the groups, in batches of one shape, and gives what it has to the others: the result does not
// depend on the number of ranks.
void ClassifierTraining::run_trunk(ClassifierTexts& texts) const {
  const at::NoGradGuard no_grad;
  const std::int64_t width = encoder_.spec.hidden_size;
  const std::vector<std::vector<std::size_t>> groups = groups_by_length(texts.rows, *text_, config_.batch);
  std::vector<std::int64_t> begin = {0};  // tokens before each group
  texts.offset.resize(texts.rows.size());
  for (const auto& group : groups) {
    std::int64_t at = begin.back();
    for (const std::size_t place : group) {
      texts.offset[place] = at;
      at += std::ssize(texts.rows[place]);
    }
    begin.push_back(at);
  }
  std::vector<std::int64_t> counts;
  for (int rank = 0; rank < group_.size(); ++rank) {
    const Share share = share_of(std::ssize(groups), rank, group_.size());
    counts.push_back((begin[idx(share.end)] - begin[idx(share.begin)]) * width);
  }
  const Share mine = share_of(std::ssize(groups), group_.rank(), group_.size());
  at::Tensor own = at::empty({begin[idx(mine.end)] - begin[idx(mine.begin)], width}, at::kFloat);
  for (std::int64_t g = mine.begin; g < mine.end; ++g) {
    const auto& group = groups[idx(g)];
    const std::int64_t length = text_->padded_length(std::ssize(texts.rows[group.front()]));
    const PaddedRows padded = pad_rows(texts.rows, group, config_.batch, length, encoder_.device());
    const at::Tensor hidden = run_blocks(encoder_, embed(encoder_, padded.tokens), token_mask(padded.lengths, length), 0,
                                         first_trained_).to(at::kCPU);
    for (std::size_t i = 0; i < group.size(); ++i) {
      const std::int64_t tokens = std::ssize(texts.rows[group[i]]);
      own.narrow(0, texts.offset[group[i]] - begin[idx(mine.begin)], tokens)
          .copy_(hidden[static_cast<std::int64_t>(i)].narrow(0, 0, tokens));
    }
  }
  at::Tensor whole = own;
  if (group_.size() > 1) {
    whole = at::empty({begin.back(), width}, at::kFloat);
    group_.host().all_gather_v(std::span<const float>(own.const_data_ptr<float>(), idx(own.numel())),
                               std::span<float>(whole.mutable_data_ptr<float>(), idx(whole.numel())), counts,
                               "frozen activations");
  }
  texts.trunk = whole.to(encoder_.device());
}

at::Tensor ClassifierTraining::logits(const ClassifierTexts& texts, std::span<const std::size_t> places, std::int64_t rows,
                                      std::int64_t length) const {
  const PaddedRows padded = pad_rows(texts.rows, places, rows, length, encoder_.device());
  const at::Tensor mask = token_mask(padded.lengths, length);
  at::Tensor x;
  if (texts.trunk.defined()) {
    std::vector<std::int64_t> from(idx(rows * length), 0);  // padding: any row, nothing looks at it
    for (std::size_t i = 0; i < places.size(); ++i)
      for (std::int64_t t = 0; t < std::ssize(texts.rows[places[i]]); ++t)
        from[i * idx(length) + idx(t)] = texts.offset[places[i]] + t;
    x = texts.trunk.index_select(0, at::tensor(from, at::kLong).to(encoder_.device())).view({rows, length, -1});
  } else {
    const at::AutoGradMode mode(trains_embeddings_ && at::GradMode::is_enabled());
    x = run_blocks(encoder_, embed(encoder_, padded.tokens), mask, 0, first_trained_);
  }
  return classify(encoder_, run_blocks(encoder_, x, mask, first_trained_, encoder_.num_layers()), mask)
      .narrow(0, 0, std::ssize(places));
}

// Weighted sum over the texts: cross-entropy against the label's probability, or squared error against the score.
at::Tensor ClassifierTraining::loss_sum(const at::Tensor& logits, std::span<const std::size_t> places) const {
  std::vector<float> labels, weights;
  for (const std::size_t place : places) {
    labels.push_back(static_cast<float>(texts_.labels.records[place].value));
    weights.push_back(static_cast<float>(texts_.labels.records[place].weight));
  }
  const at::Tensor y = at::tensor(labels, at::kFloat).to(logits.device()), w = at::tensor(weights, at::kFloat).to(logits.device());
  if (texts_.labels.scores) return (w * (logits.select(1, 0) - y).square()).sum();
  const at::Tensor logp = at::log_softmax(logits, 1, at::kFloat);
  return -(w * (y * logp.select(1, 1) + (1 - y) * logp.select(1, 0))).sum();
}

std::int64_t ClassifierTraining::updates_per_epoch() const {
  return (std::ssize(texts_.rows) + config_.train.batch - 1) / config_.train.batch;
}

double ClassifierTraining::rate(std::int64_t number) const { return learning_rate(optimizer_config_, number, updates()); }

// An epoch is a keyed permutation; within stretches of some batches texts are sorted by length, so that little of a batch
// is padding, and the batches are drawn in keyed order again.
std::vector<std::size_t> ClassifierTraining::batch_of(std::int64_t number) {
  const std::int64_t epoch = number / updates_per_epoch();
  if (epoch != ordered_epoch_) {
    const RandomStream stream(options_.seed, Purpose::data_order, 2, epoch);
    const std::vector<std::int64_t> permuted = permutation(stream, std::ssize(texts_.rows));
    std::vector<std::size_t> order(permuted.begin(), permuted.end());
    const std::size_t batch = idx(config_.train.batch), stretch = batch * idx(kBatchesSortedTogether);
    std::vector<std::vector<std::size_t>> cut;
    for (std::size_t begin = 0; begin < order.size(); begin += stretch) {
      const auto first = order.begin() + static_cast<std::ptrdiff_t>(begin);
      const auto last = order.begin() + static_cast<std::ptrdiff_t>(std::min(order.size(), begin + stretch));
      std::stable_sort(first, last, [&](std::size_t a, std::size_t b) { return texts_.rows[a].size() < texts_.rows[b].size(); });
    }
    for (std::size_t begin = 0; begin < order.size(); begin += batch)
      cut.emplace_back(order.begin() + static_cast<std::ptrdiff_t>(begin),
                       order.begin() + static_cast<std::ptrdiff_t>(std::min(order.size(), begin + batch)));
    batches_.clear();
    const RandomStream batch_stream(options_.seed, Purpose::data_order, 3, epoch);
    for (const std::int64_t i : permutation(batch_stream, std::ssize(cut))) batches_.push_back(std::move(cut[idx(i)]));
    ordered_epoch_ = epoch;
  }
  return batches_[idx(number % updates_per_epoch())];
}

double ClassifierTraining::update(std::int64_t number) {
  const std::vector<std::size_t> batch = batch_of(number);
  double weight = 0;
  for (const std::size_t place : batch) weight += texts_.labels.records[place].weight;
  if (weight == 0) return 0;
  const Share share = share_of(std::ssize(batch), group_.rank(), group_.size());
  const std::span<const std::size_t> mine = std::span(batch).subspan(idx(share.begin), idx(share.end - share.begin));
  double loss = 0;
  for (std::size_t begin = 0; begin < mine.size(); begin += idx(config_.train.micro_batch)) {
    const auto part = mine.subspan(begin, std::min(mine.size() - begin, idx(config_.train.micro_batch)));
    std::size_t longest = 0;
    for (const std::size_t place : part) longest = std::max(longest, texts_.rows[place].size());
    const at::Tensor sum = loss_sum(logits(texts_, part, std::ssize(part), static_cast<std::int64_t>(longest)), part);
    (sum / weight).backward();
    loss += sum.item<double>();
  }
  at::Tensor& gradients = parameters_.gradients();
  if (group_.size() > 1)
    group_.all_reduce(std::span<float>(gradients.mutable_data_ptr<float>(), idx(gradients.numel())), comm::Reduction::sum,
                      "gradients");
  loss = comm::sum_of(group_.host(), loss, "loss") / weight;
  const double norm = optimizer_.clip();
  require(std::isfinite(loss) && std::isfinite(norm),
          "loss or gradient are not finite at update {} of {}: lower {}.train.learning_rate, or look at the labels", number + 1,
          updates(), options_.section);
  optimizer_.step(rate(number));
  parameters_.zero_gradients();
  return loss;
}

std::vector<double> ClassifierTraining::heldout_predictions() {
  const at::NoGradGuard no_grad;
  const std::vector<std::vector<std::size_t>> groups = groups_by_length(heldout_.rows, *text_, config_.batch);
  const Share mine = share_of(std::ssize(groups), group_.rank(), group_.size());
  std::vector<double> own;
  for (std::int64_t g = mine.begin; g < mine.end; ++g) {
    const auto& group = groups[idx(g)];
    const std::int64_t length = text_->padded_length(std::ssize(heldout_.rows[group.front()]));
    const at::Tensor z = logits(heldout_, group, config_.batch, length).to(at::kCPU, at::kDouble);
    const at::Tensor value = heldout_.labels.scores ? z.select(1, 0) : z.select(1, 1) - z.select(1, 0);
    for (std::int64_t i = 0; i < value.size(0); ++i) own.push_back(value[i].item<double>());
  }
  const comm::Gathered<double> all = group_.all_gather_v(std::span<const double>(own), "held-out predictions");
  std::vector<double> predictions(heldout_.rows.size());
  std::size_t next = 0;
  for (const auto& group : groups)
    for (const std::size_t place : group) predictions[place] = all.values[next++];
  return predictions;
}

}  // namespace vbon
