// One collection of responses across roles: rollout ranks draw chunks, scorer ranks score them, learner ranks get all
// of them. Chunks travel as committed HDF5 files, messages announce them; each stage works on one chunk while the one
// before works on the next. Training steps and evaluations are such collections with different prompts and streams.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "vbon/base/rng.hpp"
#include "vbon/generate/engine.hpp"
#include "vbon/reward/scorer.hpp"
#include "vbon/store/rollout_files.hpp"
#include "vbon/store/samples.hpp"
#include "vbon/text/tokenizer.hpp"
#include "vbon/train/rank_context.hpp"
#include "vbon/train/reward_ranks.hpp"

namespace vbon {

// What is collected: a pure function of configuration and step, the same on every rank.
struct Collection {
  const PromptRows* prompts = nullptr;  // tokenised
  std::vector<std::int64_t> rows;       // prompts of this collection, rows of `prompts`
  std::int32_t samples_per_prompt = 1;
  std::int32_t anchor_samples = 0;  // drawn from the anchor beside them, a prompt; behind the policy's in a chunk
  std::int64_t prompts_per_chunk = 1;
  SamplingConfig sampling;
  std::vector<std::int32_t> eos_ids;
  RandomStream stream{0, Purpose::rollout};
  RandomStream anchor_stream{0, Purpose::anchor};
  std::int64_t prefix_every = 0;  // tokens between prefixes that are scored, too; 0: none
  std::int64_t trunk_block = 0;   // the policy's samples bring the rows that enter this block; 0: they do not
  std::int64_t step = 0;
  std::int64_t weights_version = 0;
  const RolloutFiles* files = nullptr;
  RolloutHeader header;  // provenance of the chunk files

  std::int64_t num_chunks() const {
    return (static_cast<std::int64_t>(rows.size()) + prompts_per_chunk - 1) / prompts_per_chunk;
  }
};

// What each role brings; null where the rank has not the role (evaluator: or none is configured).
struct CollectionTools {
  const CausalLm* policy = nullptr;      // rollout
  SamplerWeights* weights = nullptr;     // rollout: the policy's, kept between steps
  const CausalLm* anchor = nullptr;      // rollout, where there are anchor_samples
  const Tokenizer* tokenizer = nullptr;  // scorer
  RewardModel* reward = nullptr;         // scorer
  RewardModel* evaluator = nullptr;      // scorer
  std::vector<RewardModel*> more;        // scorer: rewards beside the main one
  RewardRanks ranks;                     // scorer: of the main reward, by row of `prompts`
};

// A collection in pieces, so that learners can learn while others draw. Every rank makes the three calls in this order;
// each is nothing where the rank has not the role.
class Collecting {
 public:
  Collecting(RankContext& context, Collection what, CollectionTools tools);
  void draw();            // rollout: this rank's chunks
  void score();           // scorer: waits for chunks
  RolloutBatch gather();  // learner: waits for all; in chunk order, empty elsewhere

  const Collection& what() const { return what_; }

 private:
  RankContext& context_;
  Collection what_;
  CollectionTools tools_;
};

// Collective over the world: all of it. Returns the scored batch in chunk order on learner ranks, an empty one
// elsewhere.
RolloutBatch collect(RankContext& context, const Collection& what, const CollectionTools& tools);

}  // namespace vbon
