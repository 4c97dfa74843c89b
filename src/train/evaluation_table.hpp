// The figures of an evaluation's table: means over prompts with their errors and bootstrap intervals, of the reference
// (the pool's samples), the policy, and Best-of-N from the pool and by its closed forms.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "vbon/train/evaluate.hpp"

namespace vbon {

std::int64_t evaluation_seed(const Settings& settings);

// The share of the pool's samples that a policy's beat, ties half, by prompt. `sorted`: the pool's rewards [P, M];
// `rewards`: the policy's [prompts, K].
std::vector<double> win_by_prompt(const UsedPool& pool, const std::vector<float>& sorted,
                                  const std::vector<float>& rewards, std::int64_t num_prompts);

// `file` holds the policy's samples, rewards, KL and win rates.
std::vector<EvalRow> evaluation_rows(const Settings& settings, const UsedPool& pool, const EvalFile& file);

// A row's figures by the names that files give them: kl, win, … and of rewards beside the main one reward.NAME,
// win.NAME.
std::vector<std::pair<std::string, MeanError>> figures_of(const EvalRow& row);

}  // namespace vbon
