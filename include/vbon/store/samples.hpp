// Prompts and reference-style samples as pool.h5 and eval.h5 keep them: P prompts (rows), M samples a prompt, at most T
// new tokens. Matrices are flat, row-major: sample m of row p lies at p * M + m, its token t at (p * M + m) * T + t.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "vbon/store/hdf5.hpp"

namespace vbon {

struct PromptRows {
  std::vector<std::int64_t> id;            // [P] from the prompts file, else the line number
  std::vector<std::string> text_sha256;    // [P] the checked key
  std::vector<std::string> text;           // [P]
  std::vector<std::int32_t> tokens;        // [offset.back()]
  std::vector<std::int64_t> offset = {0};  // [P+1] row p has tokens offset[p] .. offset[p+1]

  std::int64_t num_prompts() const { return static_cast<std::int64_t>(id.size()); }
  std::span<const std::int32_t> tokens_of(std::int64_t row) const;
  void add(std::int64_t prompt_id, std::string prompt_text,
           std::span<const std::int32_t> prompt_tokens);  // hashes the text
};

struct SampleRows {
  std::int64_t num_samples = 0;        // M
  std::int64_t max_new_tokens = 0;     // T
  std::vector<std::int32_t> tokens;    // [P, M, T], -1 after the end
  std::vector<std::int32_t> length;    // [P, M] tokens, with the end of sequence if it came
  std::vector<std::uint8_t> finished;  // [P, M] 1: ended by itself, 0: cut at T
  std::vector<float> logp_reference;   // [P, M] sum of log pi_ref over the response at temperature T

  std::int64_t num_prompts() const;
  std::span<const std::int32_t> tokens_of(std::int64_t row, std::int64_t sample) const;  // without the -1 after the end
};

using RewardColumns = std::map<std::string, std::vector<float>>;  // name ("main", "evaluator") -> [P, M]

// Responses cut short, scored as if they ended there: after every, 2 every, … tokens. C cuts lie below T. What reward
// a beginning has already tells which of a response's tokens brought it.
struct PrefixRows {
  std::int64_t every = 0;             // tokens; 0: none were scored
  std::int64_t samples = 0;           // S, of each prompt the first so many; 0 without
  std::vector<float> reward;          // [P, S, C] of "main"; NaN from the cut on at which the response has ended
  std::vector<float> logp_reference;  // [P, S, C] sum of log pi_ref over the tokens before the cut; NaN likewise

  // Inside a response of so many tokens; C is that of T.
  std::int64_t num_cuts(std::int64_t tokens) const { return every > 0 ? (tokens - 1) / every : 0; }
  // Where the C numbers of a sample begin, given C.
  std::int64_t begin_of(std::int64_t row, std::int64_t sample, std::int64_t cuts) const {
    return (row * samples + sample) * cuts;
  }
};

// What the reference's blocks below `block` make of prompts and samples: the rows that enter it. A learner that leaves
// those blocks as they are need not run them again.
struct TrunkRows {
  std::int64_t block = 0;      // 0: not kept
  std::int64_t width = 0;      // D
  std::vector<float> prompt;   // [tokens of all prompts, D]
  std::vector<float> samples;  // [length - 1 of all samples, D]: a response's last token is not run
};

struct SampleBlock {
  PromptRows prompts;
  SampleRows samples;
  RewardColumns rewards;
  PrefixRows prefixes;
  TrunkRows trunk;
  std::int64_t num_prompts() const { return prompts.num_prompts(); }
};

// without_samples leaves `samples` empty but for its sizes; only with_trunk reads TrunkRows, the bulk of a pool that
// has them.
enum class SampleParts { without_samples, all, with_trunk };

// UserError naming the file, the row and what is wrong: sizes that disagree, offsets that fall, duplicate ids, hashes
// that are not the texts', tokens < -1 or after the end, lengths outside [1, T], `finished` against length or eos_ids
// (empty: not compared), log-probabilities that are not finite or positive, rewards that are not finite (of prefixes:
// before the response's end).
void validate(const SampleBlock& block, std::span<const std::int64_t> eos_ids, const std::string& where,
              SampleParts parts = SampleParts::all);
// Row of TrunkRows::samples at which sample i begins, [P M + 1].
std::vector<std::int64_t> trunk_offsets(const SampleRows& samples);
void append(SampleBlock& all, const SampleBlock& more);               // rows of `more` after those of `all`
SampleBlock first_samples(const SampleBlock& block, std::int64_t m);  // of every prompt

void write_sample_block(H5Group& root, const SampleBlock& block);
SampleBlock read_sample_block(const H5Group& root, SampleParts parts = SampleParts::all);

}  // namespace vbon
