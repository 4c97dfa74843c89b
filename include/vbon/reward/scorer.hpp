// Rewards of (prompt, response), whatever gives them: a classifier, an n-gram model, a user's program. A model's text
// is the prompt followed by the response.
//
// Each distinct pair has one score: scorers compute in batches of one fixed shape, so that a row does not feel its
// neighbours; the score is rounded (`round`); and what was scored is remembered.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "vbon/reward/exec.hpp"
#include "vbon/reward/reward_config.hpp"

namespace vbon {

struct PromptResponse {
  std::string_view prompt;
  std::string_view response;  // may be empty
};

// Unrounded rewards, in order.
using RawScorer = std::function<std::vector<double>(std::span<const PromptResponse>)>;

class RewardModel {
 public:
  // `name` stands for the reward in messages.
  RewardModel(std::string name, double round, RawScorer scorer);

  // Finite rewards, in order. UserError naming prompt and response where the model gives NaN or infinity.
  std::vector<float> score(std::span<const PromptResponse> pairs);

 private:
  using Key = std::array<std::uint64_t, 2>;
  struct KeyHash {
    std::size_t operator()(const Key& key) const { return static_cast<std::size_t>(key[0]); }
  };
  static Key key_of(const PromptResponse& pair);

  std::string name_;
  double round_;
  RawScorer scorer_;
  std::unordered_map<Key, float, KeyHash> known_;
};

// The options of an exec reward. Start its program (ExecProgram) before MPI, CUDA and threads.
ExecOptions exec_options(const RewardConfig& config);

// Loads what the section names; UserError for what is wrong with it. `program`: the one started for kind exec; none: it
// is started now.
RewardModel make_reward(const RewardConfig& config, at::Device device, std::shared_ptr<ExecProgram> program = nullptr);

// What decides a reward's values before rounding and output: SHA-256 over kind, the content of the folder (for exec:
// command and id), label, max_length and append_eos.
std::string reward_sha256(const RewardConfig& config);

// One number from a classifier's logits for label `label`. With one label, or labels that are independent of each
// other: logit is the label's own, prob its sigmoid. Else prob is the softmax; logit is the difference to the other
// label where there are two (the log odds), the label's own where there are more.
double reward_of_logits(std::span<const float> logits, std::size_t label, bool independent, RewardOutput output);

}  // namespace vbon
