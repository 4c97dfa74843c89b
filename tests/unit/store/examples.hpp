// Small contents for every schema, made from a seed; written to look like the real thing (ties, cut samples, Unicode).
#pragma once

#include <algorithm>
#include <cmath>
#include <random>

#include "vbon/store/pool.hpp"

namespace vbon {

inline constexpr std::int64_t kEos = 0;

// Prompts first .. first + count - 1 of a set that does not depend on how it is cut.
inline SampleBlock example_block(std::int64_t first, std::int64_t count, std::int64_t m = 4, std::int64_t t = 5) {
  SampleBlock block;
  block.samples.num_samples = m;
  block.samples.max_new_tokens = t;
  for (std::int64_t p = first; p < first + count; ++p) {
    std::mt19937 random(static_cast<unsigned>(p));
    std::vector<std::int32_t> prompt(static_cast<std::size_t>(p % 4 + 1));
    for (auto& token : prompt) token = static_cast<std::int32_t>(random() % 100 + 1);
    block.prompts.add(1000 + p, "prompt " + std::to_string(p) + " \xC3\xA9\n", prompt);
    for (std::int64_t s = 0; s < m; ++s) {
      const auto drawn = static_cast<std::int64_t>(random() % static_cast<unsigned>(t + 1)) + 1;  // t + 1: cut
      const std::int64_t length = std::min(drawn, t);
      for (std::int64_t i = 0; i < t; ++i) {
        const bool last = i + 1 == length && drawn <= t;
        const auto token = static_cast<std::int32_t>(random() % 100 + 1);
        block.samples.tokens.push_back(i >= length ? -1 : last ? static_cast<std::int32_t>(kEos) : token);
      }
      block.samples.length.push_back(static_cast<std::int32_t>(length));
      block.samples.finished.push_back(drawn <= t ? 1 : 0);
      block.samples.logp_reference.push_back(-0.5f * static_cast<float>(length));
      block.rewards["main"].push_back(static_cast<float>(random() % 5) / 4 - 1);
      block.rewards["evaluator"].push_back(static_cast<float>(random() % 1000) / 1000);
    }
  }
  return block;
}

inline PoolHeader example_pool_header(std::int64_t m = 4, std::int64_t t = 5) {
  PoolHeader header;
  header.provenance.vbon_version = "0.1.0";
  header.provenance.config = "pool:\n  samples: 4\n";
  header.provenance.seed = 7;
  header.provenance.run_id = "run";
  header.provenance.library_versions = {{"torch", "2.11.0"}};
  header.provenance.reference_sha256 = std::string(64, 'a');
  header.provenance.tokenizer_sha256 = std::string(64, 'b');
  header.provenance.reward_sha256 = std::string(64, 'c');
  header.provenance.prompts_sha256 = std::string(64, 'd');
  header.temperature = 0.7;
  header.max_new_tokens = t;
  header.num_samples = m;
  header.eos_ids = {kEos};
  header.reward_output = "log_prob";
  header.seconds = 1.25;
  return header;
}

}  // namespace vbon
