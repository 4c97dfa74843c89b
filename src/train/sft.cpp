#include "vbon/train/sft.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "vbon/base/files.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/sha256.hpp"
#include "vbon/base/stop.hpp"
#include "vbon/comm/agree.hpp"
#include "vbon/model/hf_weights.hpp"
#include "vbon/model/vocab_head.hpp"
#include "vbon/store/folder_commit.hpp"
#include "vbon/store/safetensors.hpp"
#include "vbon/text/records.hpp"
#include "vbon/train/run_inputs.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr const char* kRecord = "training.json";
constexpr double kMaxKeptNumbers = 1 << 28;  // 1 GiB of the frozen trunk's rows of held-out texts

// A text as tokens: what comes before `learned` is context, the rest is predicted.
struct Text {
  std::vector<std::int32_t> tokens;
  std::size_t learned = 1;
};

class Sft {
 public:
  Sft(comm::Communicator& world, const Settings& settings, const RunText& text,
      const std::function<void(const SftProgress&)>& observer)
      : settings_(settings), sft_(settings.sft), text_(text), observer_(observer),
        context_(make_uniform_context(world, settings.cluster)) {}

  SftResult run() {
    SftResult result{.perplexity_before = kNaN, .perplexity_after = kNaN};
    if (already_there()) return result.skipped = true, result;
    context_.world.waiter().limit(settings_.cluster.init_timeout_s);
    load();
    result.perplexity_before = perplexity();
    result.updates = (static_cast<std::int64_t>(texts_.size()) + sft_.batch - 1) / sft_.batch * sft_.epochs;
    for (std::int64_t update = 0; update < result.updates; ++update) {
      result.tokens += step(update, result.updates);
      context_.world.waiter().limit(settings_.cluster.timeout_s);
      if (comm::any_rank(*context_.everyone, stop::requested(), "stop requested")) {
        if (context_.is_root())
          log::warn("stopped by a signal at update {} of {}; sft keeps no checkpoints: the same command begins again",
                    update + 1, result.updates);
        return result.code = ExitCode::requeue, result;
      }
    }
    result.perplexity_after = perplexity();
    write(result);
    return result;
  }

 private:
  // Everything that decides the result, and nothing else.
  std::string key() const {
    const OptimizerConfig& o = sft_.optimizer;
    const fs::path base = settings_.model.base;
    const std::string_view loss = sft_.loss == SftLoss::response ? "" : "|whole";
    return sha256_hex(fmt::format("{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}{}",
                                  folder_sha256(base, tokenizer_sources(base)), sha256_file(sft_.text),
                                  sft_.layers.text(), sft_.epochs, sft_.batch, sft_.max_length, sft_.max_texts,
                                  settings_.model.start_token.value_or(-1), o.learning_rate, o.beta1, o.beta2, o.eps,
                                  o.weight_decay, o.clip_norm, enum_name(o.schedule), o.warmup, *settings_.run.seed, loss));
  }

  bool already_there() {
    std::string there = "no";
    comm::together(*context_.everyone, "the reference", [&] {
      if (!context_.is_root()) return;
      key_ = key();
      const FolderRecord record = {kRecord, "vbon sft", "another base model, text, seed or sft configuration",
                                   "model.reference"};
      there = already_made(settings_.model.reference, record, key_) ? "yes" : "no";
    });
    return comm::from_root(*context_.everyone, there, context_.placement.learner_root(), "the reference") == "yes";
  }

  // The first `most` texts, 0: all.
  std::vector<Text> read(const std::string& path, std::int64_t most, const Tokenizer& tokenizer,
                         const LmSpec& spec) const {
    std::vector<Text> texts;
    for (const TextRecord& record : read_texts(path)) {
      if (most > 0 && static_cast<std::int64_t>(texts.size()) == most) break;
      Text text;
      text.tokens = encode_text(tokenizer, settings_.model.start_token, record.prompt);
      if (!record.prompt.empty() && sft_.loss == SftLoss::response) text.learned = text.tokens.size();
      const std::vector<std::int32_t> response =
          record.prompt.empty()
              ? encode_text(tokenizer, std::nullopt, record.response)
              : tokenizer.encode(record.response, {.add_special_tokens = false, .parse_special = false});
      text.tokens.insert(text.tokens.end(), response.begin(), response.end());
      if (!spec.eos_ids.empty()) text.tokens.push_back(spec.eos_ids.front());
      const std::int64_t longest = std::min(sft_.max_length, spec.max_positions);
      if (static_cast<std::int64_t>(text.tokens.size()) > longest) text.tokens.resize(idx(longest));
      text.learned = std::max<std::size_t>(1, text.learned);
      if (text.tokens.size() > text.learned) texts.push_back(std::move(text));
    }
    require(!texts.empty(), "'{}' holds no text of at least two tokens", path);
    return texts;
  }

  void load() {
    comm::together(*context_.everyone, "loading", [&] {
      const Tokenizer tokenizer = Tokenizer::load(settings_.model.base);
      base_ = load_causal_lm(settings_.model.base, context_.device, at::kFloat);
      texts_ = read(sft_.text, sft_.max_texts, tokenizer, base_.spec);
      if (!sft_.heldout.empty()) heldout_ = read(sft_.heldout, sft_.max_heldout, tokenizer, base_.spec);
      policy_ = make_policy(base_, sft_.layers);
      const DataParallelOptions options = {.bucket_mib = settings_.cluster.bucket_mib,
                                           .sharded = settings_.cluster.shard_optimizer};
      parameters_ = FlatParameters(trained_parameters(policy_), FlatParameters::Gradients::kept,
                                   DataParallel::multiple(options, context_.learners->size()));
      tie_again(policy_.model);
      parallel_.emplace(parameters_, sft_.optimizer, *context_.learners, options);
    });
  }

  Sequence sequence(const Text& text) const {
    return {std::span(text.tokens).first(text.learned), std::span(text.tokens).subspan(text.learned)};
  }

  // Sum of negative log-probabilities of one micro-batch; accumulates the gradient of sum/normaliser if asked for.
  // `trunk`: its rows entering the first trained block, if they are known; else they are put there.
  double run_micro(std::span<const Sequence> sequences, double normaliser, bool learn, std::vector<at::Tensor>& trunk) {
    const PackedSequences packed = pack(sequences, context_.device);
    const std::int64_t first = policy_.first_trained_block;
    if (first > 0 && trunk.empty()) trunk = run_trunk(policy_.model, packed, first);
    const at::AutoGradMode mode(learn);
    const at::Tensor hidden = response_hidden(policy_.model, packed, first, trunk);
    const at::Tensor sum = -token_statistics(hidden, policy_.model.head, packed.targets, 1.0).logp.sum();
    if (learn) (sum / normaliser).backward();
    return sum.item<double>();
  }

  // `trunks`: of every micro-batch, kept for the next time that the batch is run; null: not kept.
  double run_batch(std::span<const Text* const> batch, double normaliser, bool learn,
                   std::vector<std::vector<at::Tensor>>* trunks = nullptr) {
    const Share mine =
        share_of(static_cast<std::int64_t>(batch.size()), context_.learners->rank(), context_.learners->size());
    std::vector<Sequence> sequences;
    for (const Text* text : batch.subspan(idx(mine.begin), idx(mine.end - mine.begin)))
      sequences.push_back(sequence(*text));
    double sum = 0;
    const std::vector<std::vector<std::int64_t>> groups = micro_batches(sequences, sft_.micro_batch);
    if (trunks != nullptr) trunks->resize(groups.size());
    for (std::size_t g = 0; g < groups.size(); ++g) {
      if (learn && g + 1 == groups.size()) parallel_->last_backward();
      std::vector<Sequence> members;
      for (const std::int64_t i : groups[g]) members.push_back(sequences[idx(i)]);
      std::vector<at::Tensor> own;
      sum += run_micro(members, normaliser, learn, trunks != nullptr ? (*trunks)[g] : own);
    }
    return sum;
  }

  std::int64_t step(std::int64_t update, std::int64_t total) {
    const std::int64_t per_epoch = total / sft_.epochs, epoch = update / per_epoch, part = update % per_epoch;
    const RandomStream stream(static_cast<std::uint64_t>(*settings_.run.seed), Purpose::data_order, 1, epoch);
    const std::vector<std::int64_t> order = permutation(stream, static_cast<std::int64_t>(texts_.size()));
    std::vector<const Text*> batch;
    double tokens = 0;
    for (std::int64_t i = part * sft_.batch; i < std::min<std::int64_t>((part + 1) * sft_.batch, std::ssize(order));
         ++i) {
      batch.push_back(&texts_[idx(order[idx(i)])]);
      tokens += static_cast<double>(batch.back()->tokens.size() - batch.back()->learned);
    }
    std::array<double, 1> loss = {run_batch(batch, tokens, /*learn=*/true)};
    const double rate = learning_rate(sft_.optimizer, update, total);
    const double norm = parallel_->reduce();
    require(std::isfinite(norm), "the gradient is not finite at update {} of sft: lower sft.optimizer.learning_rate",
            update);
    parallel_->apply(rate);
    context_.learners->host().all_reduce(std::span<double>(loss), comm::Reduction::sum, "loss");
    if (context_.is_root() && observer_) observer_({update + 1, total, loss[0] / tokens, rate});
    return static_cast<std::int64_t>(tokens);
  }

  double perplexity() {
    if (heldout_.empty()) return kNaN;
    std::vector<const Text*> all;
    double tokens = 0, inputs = 0;
    for (const Text& text : heldout_) {
      all.push_back(&text);
      tokens += static_cast<double>(text.tokens.size() - text.learned);
      inputs += static_cast<double>(text.tokens.size() - 1);
    }
    const bool keep = inputs * static_cast<double>(base_.spec.hidden_size) <= kMaxKeptNumbers;
    std::array<double, 1> sum = {run_batch(all, 1.0, /*learn=*/false, keep ? &heldout_trunks_ : nullptr)};
    context_.learners->host().all_reduce(std::span<double>(sum), comm::Reduction::sum, "held-out loss");
    return std::exp(sum[0] / tokens);
  }

  void write(const SftResult& result) {
    comm::together(*context_.everyone, "writing the reference", [&] {
      if (!context_.is_root()) return;
      const auto number = [](double x) { return std::isfinite(x) ? nlohmann::json(x) : nlohmann::json(nullptr); };
      const nlohmann::json record = {{"format", "vbon.sft"},
                                     {"key", key_},
                                     {"updates", result.updates},
                                     {"tokens", result.tokens},
                                     {"perplexity_before", number(result.perplexity_before)},
                                     {"perplexity_after", number(result.perplexity_after)},
                                     {"config", text_.resolved_yaml}};
      std::vector<std::string> names = tokenizer_files(settings_.model.base);
      names.insert(names.end(), {"config.json", "generation_config.json", "model.safetensors", kRecord});
      write_folder_atomically(settings_.model.reference, names, [&](const fs::path& folder) {
        export_causal_lm(policy_.model, folder,
                         {.source = settings_.model.base,
                          .temperature = settings_.sampling.temperature,
                          .max_new_tokens = settings_.sampling.max_new_tokens});
        write_file_atomically(folder / kRecord, record.dump(1) + "\n");
      });
    });
  }

  const Settings& settings_;
  const SftSection& sft_;
  const RunText& text_;
  const std::function<void(const SftProgress&)>& observer_;
  RankContext context_;
  std::string key_;
  CausalLm base_;
  std::vector<Text> texts_, heldout_;
  std::vector<std::vector<at::Tensor>> heldout_trunks_;  // the trunk is frozen: the second perplexity needs it no more
  Policy policy_;
  FlatParameters parameters_;
  std::optional<DataParallel> parallel_;
};

}  // namespace

SftResult run_sft(comm::Communicator& world, const Settings& settings, const RunText& text,
                  const std::function<void(const SftProgress&)>& observer) {
  return Sft(world, settings, text, observer).run();
}

}  // namespace vbon
