#include "train/classifier_training.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <numeric>
#include <set>

#include "vbon/base/error.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/rng.hpp"
#include "vbon/comm/agree.hpp"
#include "vbon/model/encoder_weights.hpp"
#include "vbon/model/hf_weights.hpp"

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

using Tensors = std::set<const at::Tensor*>;

void insert(Tensors& set, std::initializer_list<const Linear*> layers) {
  for (const Linear* l : layers) set.insert({&l->weight, &l->bias});
}
void insert(Tensors& set, std::initializer_list<const Norm*> norms) {
  for (const Norm* n : norms) set.insert({&n->weight, &n->bias});
}

// Blocks below `first` are frozen in both kinds, and embeddings unless everything is trained.
Tensors frozen_tensors(const Encoder& encoder, std::int64_t first, bool trains_embeddings) {
  Tensors frozen;
  if (!trains_embeddings) {
    frozen.insert({&encoder.token_embedding, &encoder.position_embedding, &encoder.type_embedding});
    insert(frozen, {&encoder.embedding_norm});
  }
  for (std::int64_t i = 0; i < first; ++i) {
    const EncoderBlock& b = encoder.blocks[idx(i)];
    insert(frozen, {&b.qkv, &b.attention_out, &b.mlp_in, &b.mlp_out});
    insert(frozen, {&b.attention_norm, &b.mlp_norm});
  }
  if (encoder.spec.pooling == Pooling::mean) insert(frozen, {&encoder.pooler});  // not read
  return frozen;
}

// The final norm goes with the blocks: the head alone leaves it frozen.
Tensors frozen_tensors(const LmClassifier& model, std::int64_t first, bool trains_embeddings) {
  Tensors frozen;
  if (!trains_embeddings) frozen.insert({&model.body.token_embedding, &model.body.position_embedding});
  for (std::int64_t i = 0; i < first; ++i) {
    const Block& b = model.body.blocks[idx(i)];
    insert(frozen, {&b.qkv, &b.attention_out, &b.mlp_in, &b.mlp_out});
    insert(frozen, {&b.attention_norm, &b.mlp_norm});
  }
  if (first == model.num_layers()) insert(frozen, {&model.body.final_norm});
  return frozen;
}

std::vector<NamedParameter> all_parameters(Encoder& encoder) {
  std::vector<NamedParameter> all;
  for (const EncoderEntry& entry : weight_table(encoder.spec)) all.push_back({entry.name, &entry.target(encoder)});
  return all;
}

std::vector<NamedParameter> all_parameters(LmClassifier& model) {
  std::vector<NamedParameter> all;
  for (const WeightEntry& entry : weight_table(model.spec.lm)) all.push_back({entry.name, &entry.target(model.body)});
  all.push_back({"score.weight", &model.score});
  return all;
}

std::vector<NamedParameter> trained_parameters(TextClassifier& classifier, std::int64_t first, bool trains_embeddings) {
  return std::visit(
      [&](auto& model) {
        const Tensors frozen = frozen_tensors(model, first, trains_embeddings);
        Tensors seen;
        std::vector<NamedParameter> trained;
        for (const NamedParameter& p : all_parameters(model))  // the parts of a fused tensor share one target
          if (p.tensor->defined() && !frozen.contains(p.tensor) && seen.insert(p.tensor).second) trained.push_back(p);
        return trained;
      },
      classifier);
}

std::int64_t num_tokens(std::span<const TokenRow> rows) {
  return std::accumulate(rows.begin(), rows.end(), std::int64_t{0},
                         [](std::int64_t sum, const TokenRow& row) { return sum + std::ssize(row); });
}

double mean_score(const LabelSet& labels) {
  double sum = 0, weight = 0;
  for (const LabelRecord& record : labels.records) {
    sum += record.weight * record.value;
    weight += record.weight;
  }
  return weight > 0 ? sum / weight : 0.0;
}

const char* name_of(const RewardTexts& texts) {
  const auto* const labels = std::get_if<LabelSet>(&texts);
  return labels == nullptr ? "pairs" : labels->scores ? "scores" : "labels";
}

}  // namespace

std::vector<std::size_t> ClassifierTexts::places_of(std::span<const std::size_t> examples) const {
  std::vector<std::size_t> places;
  for (const std::size_t example : examples)
    for (std::size_t k = 0; k < idx(rows_of_example); ++k) places.push_back(example * idx(rows_of_example) + k);
  return places;
}

ClassifierTraining::ClassifierTraining(const RewardConfig& config, const RewardTrainingOptions& options,
                                       comm::Collectives& group)
    : config_(config), options_(options), group_(group), optimizer_config_(optimizer_config(config.train)) {
  const RewardTrainConfig& t = config.train;
  RewardTexts texts = read_reward_texts(t.labels);
  const auto* const labels = std::get_if<LabelSet>(&texts);
  const bool classes = labels != nullptr && !labels->scores;
  const TextClassifier base = load_text_classifier(t.base, options.device);
  model_ = with_head(base, classes ? 2 : 1, options.seed);
  facts_ = facts_of(model_);
  if (facts_.causal && labels != nullptr && labels->scores && facts_of(base).label_names.size() != 1)
    shift_output(model_, mean_score(*labels));  // this head learns no bias
  require(!facts_.independent_labels,
          "'{}' is a multi-label classifier, whose two labels do not exclude each other; give another {}.train.base",
          t.base, options.section);
  const std::int64_t depth = facts_.num_layers;
  require(t.layers.last <= depth, "{}.train.layers: last {} asks for more blocks than the model's {}; write `all`",
          options.section, t.layers.last, depth);
  trains_embeddings_ = t.layers.last == RewardLayers::kAll;
  first_trained_ = trains_embeddings_ ? 0 : depth - t.layers.last;
  text_ = std::make_unique<TextRows>(Tokenizer::load(t.base), facts_, config.max_length, config.append_eos);
  if (!t.heldout.empty()) {
    RewardTexts heldout = read_reward_texts(t.heldout);
    const std::string_view here = name_of(texts), there = name_of(heldout);
    require(here == there, "'{}' and '{}': one has {}, the other {}", t.heldout, t.labels, there, here);
    heldout_ = encode(std::move(heldout), t.heldout);
  }
  texts_ = encode(std::move(texts), t.labels);
  parameters_ = FlatParameters(trained_parameters(model_, first_trained_, trains_embeddings_));
  parallel_.emplace(parameters_, optimizer_config_, group_);
}

ClassifierTexts ClassifierTraining::encode(RewardTexts texts, const std::string& path) const {
  ClassifierTexts encoded;
  if (const auto* const labels = std::get_if<LabelSet>(&texts)) {
    for (const LabelRecord& record : labels->records) {
      encoded.rows.push_back(text_->encode(record.text));
      encoded.weights.push_back(record.weight);
    }
  } else {
    encoded.rows_of_example = 2;
    for (const PairRecord& pair : std::get<std::vector<PairRecord>>(texts)) {
      encoded.rows.push_back(text_->encode(pair.prompt + pair.chosen));
      encoded.rows.push_back(text_->encode(pair.prompt + pair.rejected));
      encoded.weights.push_back(pair.weight);
    }
  }
  require(std::accumulate(encoded.weights.begin(), encoded.weights.end(), 0.0) > 0, "'{}': all weights are 0", path);
  encoded.texts = std::move(texts);
  return encoded;
}

void ClassifierTraining::prepare() {
  if (trains_embeddings_) return;
  const std::int64_t bytes = num_tokens(texts_.rows) * facts_.hidden_size * 4;
  if (bytes <= kMaxTrunkBytes) return run_trunk();
  log::info("{:.1f} GiB of frozen activations are too many to keep: they are computed again each epoch",
            static_cast<double>(bytes) / (1 << 30));
}

// Every rank runs a share of the groups, in batches of one shape, and gives what it has to the others: the result does
// not depend on the number of ranks.
void ClassifierTraining::run_trunk() {
  const at::NoGradGuard no_grad;
  const std::int64_t width = facts_.hidden_size;
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
    const PaddedRows padded = pad_rows(texts_.rows, group, config_.batch, length, device_of(model_));
    const at::Tensor hidden =
        run_blocks(model_, embed(model_, padded.tokens), token_mask(padded.lengths, length), 0, first_trained_)
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
  trunk_ = trunk_.to(device_of(model_));
}

at::Tensor ClassifierTraining::trunk_of(std::span<const std::size_t> places, const PaddedRows& padded,
                                        const at::Tensor& mask) const {
  const std::int64_t rows = padded.tokens.size(0), length = padded.tokens.size(1);
  if (!trunk_.defined()) {
    const at::AutoGradMode mode(trains_embeddings_ && at::GradMode::is_enabled());
    return run_blocks(model_, embed(model_, padded.tokens), mask, 0, first_trained_);
  }
  std::vector<std::int64_t> from(idx(rows * length), 0);  // padding: any token, nothing looks at it
  for (std::size_t i = 0; i < places.size(); ++i)
    std::iota(from.begin() + static_cast<std::ptrdiff_t>(i) * length,
              from.begin() + static_cast<std::ptrdiff_t>(i) * length + std::ssize(texts_.rows[places[i]]),
              offset_[places[i]]);
  return trunk_.index_select(0, at::tensor(from, at::kLong).to(device_of(model_))).view({rows, length, -1});
}

at::Tensor ClassifierTraining::logits_of(std::span<const std::size_t> places) const {
  std::size_t longest = 0;
  for (const std::size_t place : places) longest = std::max(longest, texts_.rows[place].size());
  const PaddedRows padded =
      pad_rows(texts_.rows, places, std::ssize(places), static_cast<std::int64_t>(longest), device_of(model_));
  const at::Tensor mask = token_mask(padded.lengths, padded.tokens.size(1));
  const at::Tensor hidden = run_blocks(model_, trunk_of(places, padded, mask), mask, first_trained_, facts_.num_layers);
  return classify(model_, hidden, mask);
}

// Weighted sum over the examples: of a text the cross-entropy against its label's probability, or the squared error
// against its score; of a pair -log sigmoid(r(chosen) - r(rejected)) + center (r(chosen) + r(rejected))^2.
at::Tensor ClassifierTraining::loss_sum(std::span<const std::size_t> examples) const {
  const at::Tensor logits = logits_of(texts_.places_of(examples));
  std::vector<float> labels, weights;
  for (const std::size_t example : examples) {
    weights.push_back(static_cast<float>(texts_.weights[example]));
    if (!texts_.are_pairs()) labels.push_back(static_cast<float>(texts_.labels().records[example].value));
  }
  const auto on_device = [&](const std::vector<float>& values) {
    return at::tensor(values, at::kFloat).to(logits.device());
  };
  const at::Tensor w = on_device(weights);
  if (texts_.are_pairs()) {
    const at::Tensor rewards = logits.view({std::ssize(examples), 2});
    const at::Tensor difference = rewards.select(1, 0) - rewards.select(1, 1);
    return (w * (config_.train.center * rewards.sum(1).square() - at::log_sigmoid(difference))).sum();
  }
  const at::Tensor y = on_device(labels);
  if (texts_.labels().scores) return (w * (logits.select(1, 0) - y).square()).sum();
  const at::Tensor logp = at::log_softmax(logits, 1, at::kFloat);
  return -(w * (y * logp.select(1, 1) + (1 - y) * logp.select(1, 0))).sum();
}

std::int64_t ClassifierTraining::updates_per_epoch() const {
  return (texts_.size() + config_.train.batch - 1) / config_.train.batch;
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
  const std::vector<std::int64_t> permuted = permutation(texts, texts_.size());
  std::vector<std::size_t> order(permuted.begin(), permuted.end());
  const std::int64_t count = std::ssize(order), batch = config_.train.batch;
  const auto place = [&](std::int64_t i) { return order.begin() + std::min(i, count); };
  const auto length = [&](std::size_t example) {
    std::size_t longest = 0;
    for (const std::size_t row : texts_.places_of(std::span(&example, 1)))
      longest = std::max(longest, texts_.rows[row].size());
    return longest;
  };
  for (std::int64_t i = 0; i < count; i += batch * kBatchesSortedTogether)
    std::stable_sort(place(i), place(i + batch * kBatchesSortedTogether),
                     [&](std::size_t a, std::size_t b) { return length(a) < length(b); });
  batches_.clear();
  for (const std::int64_t i : permutation(batches, updates_per_epoch()))
    batches_.emplace_back(place(i * batch), place((i + 1) * batch));
}

double ClassifierTraining::update(std::int64_t number) {
  const std::vector<std::size_t>& batch = batch_of(number);
  double weight = 0;
  for (const std::size_t example : batch) weight += texts_.weights[example];
  if (weight == 0) return 0;
  const Share share = share_of(std::ssize(batch), group_.rank(), group_.size());
  const std::span<const std::size_t> mine = std::span(batch).subspan(idx(share.begin), idx(share.end - share.begin));
  double loss = 0;
  for (std::size_t begin = 0; begin < mine.size(); begin += idx(config_.train.micro_batch)) {
    const auto part = mine.subspan(begin, std::min(mine.size() - begin, idx(config_.train.micro_batch)));
    const at::Tensor sum = loss_sum(part);
    if (begin + part.size() == mine.size()) parallel_->last_backward();
    (sum / weight).backward();
    loss += sum.item<double>();
  }
  const double norm = parallel_->reduce();
  loss = comm::sum_of(group_.host(), loss, "loss") / weight;
  require(std::isfinite(loss) && std::isfinite(norm),
          "loss or gradient are not finite at update {} of {}: lower {}.train.learning_rate, or look at the labels",
          number + 1, updates(), options_.section);
  parallel_->apply(rate(number));
  return loss;
}

double ClassifierTraining::center() {
  check(on_pairs(), "center: rewards of pairs");
  const at::NoGradGuard no_grad;
  const std::vector<std::vector<std::size_t>> groups = groups_by_length(texts_.rows, *text_, config_.train.micro_batch);
  const Share mine = share_of(std::ssize(groups), group_.rank(), group_.size());
  double sum = 0;
  for (std::int64_t g = mine.begin; g < mine.end; ++g) {
    const at::Tensor rewards = logits_of(groups[idx(g)]).select(1, 0).to(at::kCPU, at::kDouble).contiguous();
    for (std::size_t i = 0; i < groups[idx(g)].size(); ++i)
      sum += texts_.weights[groups[idx(g)][i] / 2] * rewards.const_data_ptr<double>()[i];
  }
  const double weight = 2 * std::accumulate(texts_.weights.begin(), texts_.weights.end(), 0.0);
  const double mean = comm::sum_of(group_.host(), sum, "rewards") / weight;
  shift_output(model_, -mean);
  return mean;
}

std::vector<double> ClassifierTraining::heldout_predictions() {
  const Share mine = share_of(std::ssize(heldout_.rows), group_.rank(), group_.size());
  const auto rows = std::span(heldout_.rows).subspan(idx(mine.begin), idx(mine.end - mine.begin));
  const at::Tensor logits = classifier_logits(model_, rows, *text_, config_.batch).to(at::kDouble);
  std::vector<double> own;
  for (std::int64_t i = 0; i < logits.size(0); ++i) {
    const at::Tensor row = logits[i];
    own.push_back(row.size(0) == 1 ? row[0].item<double>() : row[1].item<double>() - row[0].item<double>());
  }
  return group_.all_gather_v(std::span<const double>(own), "held-out predictions").values;
}

}  // namespace vbon
