// rollouts/step-%08d.h5 (`vbon.rollouts`): all sequences of one online step, and the chunks that they come in before
// the step is done: what a rollout worker drew (sampled), and the same with rewards (scored).
//
// B sequences, at most T new tokens. Matrices are flat and row-major. A vector that is empty was not measured (yet): in
// chunks it is left out, in a step's file it is written as NaN (or 0 for flags).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vbon/store/provenance.hpp"

namespace vbon {

inline constexpr std::string_view kRolloutsFormat = "vbon.rollouts";
inline constexpr std::string_view kRolloutChunkFormat = "vbon.rollout_chunk";
inline constexpr std::int64_t kRolloutsSchema = 1;

enum class RolloutSource : std::uint8_t { policy = 0, anchor = 1 };
enum class RolloutStage { sampled, scored, learned };  // each has the columns of the one before
enum class Per { sequence, token, reward };            // one value each; reward: for every one beside the main
std::string_view name_of(RolloutStage stage);

// What enters the first trained block, as the sampler computed it: chunks may carry it to the learners, who need not
// run the frozen trunk again. A step's file has none.
struct CarriedTrunk {
  std::vector<std::int32_t> rows;  // [B]; empty: none is carried. Own rows of a sequence are its tokens but the last;
                                   // one with more brings its prompt's before them, for those behind it that have
                                   // fewer. 0: not carried for it
  std::vector<float> values;       // [sum of rows, D]

  std::int64_t num_rows() const { return std::accumulate(rows.begin(), rows.end(), std::int64_t{0}); }
  std::int64_t width() const { return values.empty() ? 0 : std::ssize(values) / num_rows(); }  // D
};

struct RolloutBatch {
  std::int64_t max_new_tokens = 0;            // T
  std::int64_t num_more_rewards = 0;          // R, rewards beside the main one, in the order of their names
  std::vector<std::int64_t> prompt_id;        // [B]
  std::vector<std::int32_t> sample;           // [B] number among the samples of its prompt
  std::vector<std::int32_t> weights_version;  // [B] of the policy that drew it
  std::vector<std::int32_t> attempt;          // [B] start of the run that drew it
  std::vector<std::uint8_t> source;           // [B] RolloutSource
  std::vector<std::int32_t> tokens;           // [B, T] -1 after the end
  std::vector<std::int32_t> length;           // [B] tokens, with the end of sequence if it came
  std::vector<std::uint8_t> finished;         // [B] 1: ended by itself, 0: cut at T
  // [B, T], NaN after the end, nats where they are log-probabilities:
  std::vector<float> logp_behavior, logp_reference, kl, entropy, value, advantage, returns;
  // [B, T] at a prefix's last token the reward of the prefix, NaN at tokens where none was cut:
  std::vector<float> prefix_reward;
  // [B]:
  std::vector<float> reward, log_f, evaluator;
  std::vector<std::uint8_t> at_floor, at_ceiling;  // [B] log F at its lowest or highest value
  std::vector<float> more_reward;                  // [B, R]
  CarriedTrunk trunk;                              // in chunks

  std::int64_t width(Per per) const {
    return per == Per::token ? max_new_tokens : per == Per::reward ? num_more_rewards : 1;
  }
  std::int64_t num_sequences() const { return static_cast<std::int64_t>(prompt_id.size()); }  // B

  // v(name, values, stage that brings them, what each value belongs to)
  template <class V, class Self>
  static void visit(V&& v, Self& b) {
    v("prompt_id", b.prompt_id, RolloutStage::sampled, Per::sequence);
    v("sample", b.sample, RolloutStage::sampled, Per::sequence);
    v("weights_version", b.weights_version, RolloutStage::sampled, Per::sequence);
    v("attempt", b.attempt, RolloutStage::sampled, Per::sequence);
    v("source", b.source, RolloutStage::sampled, Per::sequence);
    v("tokens", b.tokens, RolloutStage::sampled, Per::token);
    v("length", b.length, RolloutStage::sampled, Per::sequence);
    v("finished", b.finished, RolloutStage::sampled, Per::sequence);
    v("logp_behavior", b.logp_behavior, RolloutStage::sampled, Per::token);
    v("logp_reference", b.logp_reference, RolloutStage::learned, Per::token);
    v("kl", b.kl, RolloutStage::learned, Per::token);
    v("entropy", b.entropy, RolloutStage::learned, Per::token);
    v("value", b.value, RolloutStage::learned, Per::token);
    v("advantage", b.advantage, RolloutStage::learned, Per::token);
    v("returns", b.returns, RolloutStage::learned, Per::token);
    v("reward", b.reward, RolloutStage::scored, Per::sequence);
    v("prefix_reward", b.prefix_reward, RolloutStage::scored, Per::token);
    v("log_f", b.log_f, RolloutStage::scored, Per::sequence);
    v("evaluator", b.evaluator, RolloutStage::scored, Per::sequence);
    v("at_floor", b.at_floor, RolloutStage::scored, Per::sequence);
    v("at_ceiling", b.at_ceiling, RolloutStage::scored, Per::sequence);
    v("more_reward", b.more_reward, RolloutStage::scored, Per::reward);
  }
};

struct RolloutHeader {
  Provenance provenance;
  std::int64_t step = 0;
  std::int64_t chunk = -1;      // -1: a whole step
  std::int64_t num_chunks = 1;  // of the step
};

struct Rollouts {
  RolloutHeader header;
  RolloutBatch batch;
  std::string content_sha256;  // of the file
};

// UserError naming what is wrong: sizes, lengths, tokens after the end, numbers after the end, infinite numbers,
// missing columns of `stage` (those of `sampled`, and `reward` from `scored` on).
void validate(const RolloutBatch& batch, RolloutStage stage, const std::string& where);
// The sequences of one source, in order.
RolloutBatch of_source(const RolloutBatch& batch, RolloutSource source);
// Gives a batch the columns that another has and it has not, as if nothing had been measured: NaN, 0 for flags.
void add_missing_columns(RolloutBatch& batch, const RolloutBatch& like);
// The sequences of all batches, in order. A column must be measured in all or in none.
RolloutBatch concatenate(std::span<const RolloutBatch> batches);
// A batch as bytes for ranks of the same run, who have the same build; unpack takes one off the front.
void pack(const RolloutBatch& batch, std::vector<std::byte>& bytes);
RolloutBatch unpack(std::span<const std::byte>& bytes);
// The first column in which two batches differ bit by bit (NaN equals NaN), `attempt` left out; "" when none does.
std::string first_difference(const RolloutBatch& a, const RolloutBatch& b);

// Commits one file; returns its content's SHA-256 (without attempt, time and place).
std::string write_rollouts(const fs::path& path, RolloutStage stage, const RolloutHeader& header,
                           const RolloutBatch& batch);
Rollouts read_rollouts(const fs::path& path, RolloutStage stage);

}  // namespace vbon
