// pool.h5 (`vbon.pool`): M scored reference samples a prompt, and for each reward the table that log F is read from,
// the prompt's M rewards in ascending order.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "vbon/store/provenance.hpp"
#include "vbon/store/samples.hpp"

namespace vbon {

inline constexpr std::string_view kPoolFormat = "vbon.pool";
inline constexpr std::int64_t kPoolSchema = 1;

// What all samples of a pool have in common.
struct PoolHeader {
  Provenance provenance;
  double temperature = 1.0;
  std::int64_t max_new_tokens = 0;  // T
  std::int64_t num_samples = 0;     // M
  std::vector<std::int64_t> eos_ids;
  std::string ties = "uniform";                     // "uniform" | "total_order"
  std::string reward_output;                        // "log_prob" | "prob" | "logit" | "" (not a classifier)
  std::int64_t prefix_every = 0;                    // tokens between the cuts of PrefixRows
  std::int64_t prefix_samples = 0;                  // of each prompt, that have them
  std::int64_t trunk_block = 0;                     // of TrunkRows
  double reward_round = 1e-5;                       // rewards are multiples of it; 0: not rounded
  std::map<std::string, std::string> more_rewards;  // beside main and evaluator: name -> what made it
  double seconds = 0;                               // of sampling and scoring, over all ranks
};

struct Pool {
  PoolHeader header;
  SampleBlock block;             // with reward "main", and "evaluator" where configured
  RewardColumns sorted_rewards;  // name -> [P, M], ascending in each row: the table
  std::string content_sha256;    // names the pool (`pool_sha256` elsewhere); filled by reading and writing

  // Rewards of one prompt's samples as they were drawn, [M].
  std::span<const float> rewards_of(std::int64_t row, const std::string& reward = "main") const;
  // The same in ascending order, [M].
  std::span<const float> table(std::int64_t row, const std::string& reward = "main") const;
};

RewardColumns sorted_rows(const RewardColumns& rewards, std::int64_t num_samples);

// Checks everything that a reader would, fills sorted_rewards, commits; returns the content's SHA-256.
std::string write_pool(const fs::path& path, const PoolHeader& header, const SampleBlock& block);
// UserError when anything in the file contradicts the schema or itself.
Pool read_pool(const fs::path& path, SampleParts parts = SampleParts::all);
// The pool as it would be with the first m samples of every prompt (`pool.use`).
Pool first_samples(const Pool& pool, std::int64_t m);

// What a command is about to use a pool with. Texts and optionals left empty are not compared.
struct PoolUse {
  std::string reference_sha256, tokenizer_sha256, reward_sha256, evaluator_sha256, prompts_sha256;
  std::optional<double> temperature;
  std::optional<std::int64_t> max_new_tokens;
  std::optional<double> reward_round;
  std::string reward_output;
  std::string start_token;
  std::map<std::string, std::string> more_rewards;  // those that are about to be used
};
// check_matches() of a pool; returns what --force overrode.
std::string check_pool_use(const fs::path& path, const PoolHeader& header, const PoolUse& use, bool force);

// Finds the rows of prompts by their text's hash; an id only chooses between prompts of one text.
class PoolIndex {
 public:
  explicit PoolIndex(const PromptRows& prompts);
  std::optional<std::int64_t> find(std::int64_t prompt_id, const std::string& text_sha256) const;
  // A row for every prompt, in order; UserError naming those that `pool` lacks.
  std::vector<std::int64_t> rows_of(const PromptRows& prompts, const fs::path& pool) const;

 private:
  std::unordered_map<std::string, std::vector<std::pair<std::int64_t, std::int64_t>>> rows_;  // hash -> (id, row)
};

// Header attributes beside the provenance; shared with the parts of a pool.
void write_pool_attributes(H5Group& root, const PoolHeader& header);
PoolHeader read_pool_header(const H5Group& root);

}  // namespace vbon
