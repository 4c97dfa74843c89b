#include "vbon/train/collect.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <limits>

#include "vbon/base/error.hpp"
#include "vbon/train/carried_trunk.hpp"
#include "vbon/train/prefixes.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

// Tags of the two announcements; a chunk is on disk when its message leaves.
enum Tag : int { kSampled = 1, kScored = 2 };

struct ChunkMessage {
  std::int64_t step = 0;
  std::int64_t chunk = 0;
  std::array<char, 64> sha256{};  // of the file's content
};

ChunkMessage message_of(std::int64_t step, std::int64_t chunk, const std::string& sha256) {
  ChunkMessage message{.step = step, .chunk = chunk};
  check(sha256.size() == message.sha256.size(), "a SHA-256 has 64 digits");
  std::copy(sha256.begin(), sha256.end(), message.sha256.begin());
  return message;
}

std::string sha256_of(const ChunkMessage& message) { return {message.sha256.begin(), message.sha256.end()}; }

class Collector {
 public:
  Collector(RankContext& context, const Collection& what, const CollectionTools& tools)
      : context_(context), what_(what), tools_(tools) {}

  void draw_all() {
    for (std::int64_t chunk = 0; chunk < what_.num_chunks(); ++chunk) {
      if (rollout_of(chunk) != context_.world.rank()) continue;
      RolloutBatch batch;
      {
        const Phases::Scope scope(context_.phases, Phase::generate, context_.world.waiter());
        batch = draw(chunk);
      }
      const Phases::Scope scope(context_.phases, Phase::store, context_.world.waiter());
      const std::string sha256 = what_.files->write_chunk(RolloutStage::sampled, header_of(chunk), batch);
      context_.mailbox->send(scorer_of(chunk), kSampled, message_of(what_.step, chunk, sha256));
    }
  }

  void score_all() {
    std::int64_t mine = 0;
    for (std::int64_t chunk = 0; chunk < what_.num_chunks(); ++chunk)
      mine += scorer_of(chunk) == context_.world.rank() ? 1 : 0;
    for (std::int64_t done = 0; done < mine; ++done) {
      const auto message =
          context_.mailbox->wait({kSampled}, fmt::format("sampled chunks of step {}", what_.step)).as<ChunkMessage>();
      check(message.step == what_.step, "a sampled chunk of another step");
      RolloutBatch batch;
      {
        const Phases::Scope scope(context_.phases, Phase::store, context_.world.waiter());
        batch = what_.files->read_chunk(RolloutStage::sampled, message.step, message.chunk, sha256_of(message));
      }
      {
        const Phases::Scope scope(context_.phases, Phase::score, context_.world.waiter());
        score(batch, rows_of(message.chunk));
      }
      const Phases::Scope scope(context_.phases, Phase::store, context_.world.waiter());
      const std::string sha256 = what_.files->write_chunk(RolloutStage::scored, header_of(message.chunk), batch);
      context_.mailbox->send(learner_of(message.chunk), kScored, message_of(what_.step, message.chunk, sha256));
    }
  }

  // Each file is read by one learner, who sends the others what is in it: the number of learners opens no more files.
  RolloutBatch gather_all() {
    std::vector<RolloutBatch> chunks(idx(what_.num_chunks()));
    std::int64_t mine = 0;
    for (std::int64_t chunk = 0; chunk < what_.num_chunks(); ++chunk)
      mine += learner_of(chunk) == context_.world.rank() ? 1 : 0;
    for (std::int64_t done = 0; done < mine; ++done) {
      const auto message =
          context_.mailbox->wait({kScored}, fmt::format("scored chunks of step {}", what_.step)).as<ChunkMessage>();
      check(message.step == what_.step, "a scored chunk of another step");
      const Phases::Scope scope(context_.phases, Phase::store, context_.world.waiter());
      chunks[idx(message.chunk)] =
          what_.files->read_chunk(RolloutStage::scored, message.step, message.chunk, sha256_of(message));
    }
    if (context_.learners->size() > 1) exchange(chunks);
    return concatenate(chunks);
  }

 private:
  void exchange(std::vector<RolloutBatch>& chunks) const {
    std::vector<std::byte> own;
    for (std::int64_t chunk = 0; chunk < what_.num_chunks(); ++chunk)
      if (learner_of(chunk) == context_.world.rank()) pack(chunks[idx(chunk)], own);
    const Phases::Scope scope(context_.phases, Phase::store, context_.world.waiter());
    const auto all = context_.learners->all_gather_v(std::span<const std::byte>(own), "scored chunks");
    std::vector<std::span<const std::byte>> left;
    for (int learner = 0; learner < context_.learners->size(); ++learner) left.push_back(all.of(learner));
    for (std::int64_t chunk = 0; chunk < what_.num_chunks(); ++chunk)
      chunks[idx(chunk)] = unpack(left[idx(chunk % std::ssize(left))]);
  }

  int learner_of(std::int64_t chunk) const {
    const auto& learners = context_.placement.learners;
    return learners[idx(chunk % std::ssize(learners))];
  }
  int scorer_of(std::int64_t chunk) const {
    const auto& scorers = context_.placement.scorers;
    return scorers[idx(chunk % static_cast<std::int64_t>(scorers.size()))];
  }
  int rollout_of(std::int64_t chunk) const {
    const auto& rollouts = context_.placement.rollouts;
    return rollouts[idx(chunk % static_cast<std::int64_t>(rollouts.size()))];
  }

  std::span<const std::int64_t> rows_of(std::int64_t chunk) const {
    const std::int64_t begin = chunk * what_.prompts_per_chunk;
    const std::int64_t end = std::min(begin + what_.prompts_per_chunk, static_cast<std::int64_t>(what_.rows.size()));
    return std::span(what_.rows).subspan(idx(begin), idx(end - begin));
  }

  RolloutHeader header_of(std::int64_t chunk) const {
    RolloutHeader header = what_.header;
    header.step = what_.step;
    header.chunk = chunk;
    header.num_chunks = what_.num_chunks();
    return header;
  }

  RolloutBatch draw(std::int64_t chunk) const {
    RolloutBatch of_policy = draw_from(*tools_.policy, tools_.weights, chunk, RolloutSource::policy);
    if (what_.anchor_samples == 0) return of_policy;
    return concatenate(
        std::array{std::move(of_policy), draw_from(*tools_.anchor, nullptr, chunk, RolloutSource::anchor)});
  }

  RolloutBatch draw_from(const CausalLm& model, SamplerWeights* weights, std::int64_t chunk,
                         RolloutSource source) const {
    const bool of_policy = source == RolloutSource::policy, carries = of_policy && what_.trunk_block > 0;
    GenerateRequest request;
    for (const std::int64_t row : rows_of(chunk))
      request.prompts.push_back({what_.prompts->id[idx(row)], what_.prompts->tokens_of(row)});
    request.num_samples = of_policy ? what_.samples_per_prompt : what_.anchor_samples;
    const std::vector<Completion> completions = generate(model, request,
                                                         {.sampling = what_.sampling,
                                                          .eos_ids = what_.eos_ids,
                                                          .stream = of_policy ? what_.stream : what_.anchor_stream,
                                                          .keep_layer = carries ? what_.trunk_block : -1,
                                                          .weights = weights});
    RolloutBatch batch;
    batch.max_new_tokens = what_.sampling.max_new_tokens;
    const std::size_t count = completions.size(), width = idx(batch.max_new_tokens);
    batch.tokens.assign(count * width, -1);
    batch.logp_behavior.assign(count * width, std::numeric_limits<float>::quiet_NaN());
    for (std::size_t i = 0; i < count; ++i) {
      const Completion& c = completions[i];
      batch.prompt_id.push_back(request.prompts[idx(c.prompt)].id);
      batch.sample.push_back(c.sample);
      batch.weights_version.push_back(static_cast<std::int32_t>(what_.weights_version));
      batch.attempt.push_back(static_cast<std::int32_t>(what_.header.provenance.attempt));
      batch.source.push_back(static_cast<std::uint8_t>(source));
      batch.length.push_back(static_cast<std::int32_t>(c.tokens.size()));
      batch.finished.push_back(c.finished ? 1 : 0);
      std::copy(c.tokens.begin(), c.tokens.end(), batch.tokens.begin() + static_cast<std::ptrdiff_t>(i * width));
      std::copy(c.logp.begin(), c.logp.end(), batch.logp_behavior.begin() + static_cast<std::ptrdiff_t>(i * width));
    }
    if (carries) batch.trunk = carried_trunk(completions);
    return batch;
  }

  // Of sequence i of a chunk: the policy's samples come first, prompt by prompt, then the anchor's.
  static std::int64_t row_of(const Collection& what, std::span<const std::int64_t> rows, std::size_t i) {
    const std::size_t of_policy = rows.size() * idx(what.samples_per_prompt);
    return i < of_policy ? rows[i / idx(what.samples_per_prompt)] : rows[(i - of_policy) / idx(what.anchor_samples)];
  }

  void score(RolloutBatch& batch, std::span<const std::int64_t> rows) const {
    std::vector<std::string> responses;
    const std::size_t width = idx(batch.max_new_tokens);
    for (std::int64_t i = 0; i < batch.num_sequences(); ++i)
      responses.push_back(
          tools_.tokenizer->decode(std::span(batch.tokens).subspan(idx(i) * width, idx(batch.length[idx(i)]))));
    std::vector<PromptResponse> requests;
    for (std::size_t i = 0; i < responses.size(); ++i)
      requests.push_back({what_.prompts->text[idx(row_of(what_, rows, i))], responses[i]});
    batch.reward = tools_.reward->score(requests);
    if (tools_.evaluator != nullptr) batch.evaluator = tools_.evaluator->score(requests);
    score_more(batch, requests);
    if (what_.prefix_every > 0) score_beginnings(batch, requests);
    if (!tools_.ranks) return;
    for (std::size_t i = 0; i < responses.size(); ++i) {
      const std::int64_t row = row_of(what_, rows, i);
      const LogF log_f = tools_.ranks.log_f(
          row, batch.reward[i], std::span(batch.tokens).subspan(i * idx(batch.max_new_tokens), idx(batch.length[i])));
      batch.log_f.push_back(static_cast<float>(log_f.log_f));
      batch.at_floor.push_back(log_f.at_floor ? 1 : 0);
      batch.at_ceiling.push_back(log_f.at_ceiling ? 1 : 0);
    }
  }

  void score_more(RolloutBatch& batch, std::span<const PromptResponse> requests) const {
    batch.num_more_rewards = std::ssize(tools_.more);
    batch.more_reward.resize(requests.size() * tools_.more.size());
    for (std::size_t k = 0; k < tools_.more.size(); ++k) {
      const std::vector<float> rewards = tools_.more[k]->score(requests);
      for (std::size_t i = 0; i < rewards.size(); ++i) batch.more_reward[i * tools_.more.size() + k] = rewards[i];
    }
  }

  void score_beginnings(RolloutBatch& batch, std::span<const PromptResponse> requests) const {
    const std::size_t width = idx(batch.max_new_tokens);
    batch.prefix_reward.assign(requests.size() * width, std::numeric_limits<float>::quiet_NaN());
    std::vector<TokenResponse> responses;
    for (std::size_t i = 0; i < requests.size(); ++i)
      responses.push_back({requests[i].prompt, std::span(batch.tokens).subspan(i * width, idx(batch.length[i]))});
    for (const PrefixReward& prefix : score_prefixes(*tools_.reward, *tools_.tokenizer, responses, what_.prefix_every))
      batch.prefix_reward[prefix.response * width + idx(prefix.tokens - 1)] = prefix.reward;
  }

  RankContext& context_;
  const Collection& what_;
  const CollectionTools& tools_;
};

}  // namespace

Collecting::Collecting(RankContext& context, Collection what, CollectionTools tools)
    : context_(context), what_(std::move(what)), tools_(std::move(tools)) {
  check(what_.prompts != nullptr && what_.files != nullptr && !what_.rows.empty(), "collect: nothing to collect");
}

void Collecting::draw() {
  if (context_.is(comm::Role::rollout)) Collector(context_, what_, tools_).draw_all();
}

void Collecting::score() {
  if (context_.is(comm::Role::scorer)) Collector(context_, what_, tools_).score_all();
}

RolloutBatch Collecting::gather() {
  return context_.is(comm::Role::learner) ? Collector(context_, what_, tools_).gather_all() : RolloutBatch{};
}

RolloutBatch collect(RankContext& context, const Collection& what, const CollectionTools& tools) {
  Collecting all(context, what, tools);
  all.draw();
  all.score();
  return all.gather();
}

}  // namespace vbon
