// The forward half of a mixed objective within an online step: the responses that it imitates, and their gradient.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "vbon/train/batch_pass.hpp"
#include "vbon/train/imitation.hpp"
#include "vbon/train/learner.hpp"

namespace vbon {

class StepImitation {
 public:
  StepImitation(const LearnerState& state, const Settings& settings, std::vector<Imitated> imitated);

  // Of the step's prompts [begin, end): indices of what is imitated for them.
  std::vector<std::int64_t> of_prompts(Share prompts) const;
  std::vector<std::vector<std::int64_t>> split(std::span<const std::int64_t> members) const {
    return pass_.split(members);
  }
  // Adds `unit` times the gradient of sum_i weight_i (-log pi(y_i)) over a group of them; returns that sum.
  double backward(std::span<const std::int64_t> group, double unit);

 private:
  const Policy& policy_;
  double temperature_;
  std::vector<Imitated> imitated_;
  BatchPass pass_;
};

}  // namespace vbon
