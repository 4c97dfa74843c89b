// `vbon amortise`: the amortised F (cdf_head.hpp) from the pool of prompts.train, and how well it holds on the pool of
// prompts.eval, whose prompts it has not seen.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "vbon/comm/mpi.hpp"
#include "vbon/train/cdf_head.hpp"
#include "vbon/train/run_inputs.hpp"
#include "vbon/train/training_run.hpp"

namespace vbon {

// How well F of each prompt is known; the probability integral transform of a reward is F at it, uniform if F is right.
struct Calibration {
  static constexpr std::size_t kBins = 20;
  double nll = 0;  // mean -log density, rewards in units
  double ks = 0;   // mean over prompts of the distance between the transforms' ECDF and the diagonal
  std::vector<std::int64_t> pit = std::vector<std::int64_t>(kBins);
};
Calibration calibration_of(const CdfHead& head, const CdfData& data);

// The error of F from a prompt's first `samples` samples with the head worth `weight` of them, against the rest of its
// samples: root mean square over prompts and the rest's rewards, by the middle of F_strict and F. weight 0: the counts
// alone, (K + 1/2)/(m + 1).
struct ShrinkageError {
  std::int64_t samples = 0;
  double weight = 0;
  double rmse = 0;
};
std::vector<ShrinkageError> shrinkage_errors(const CdfHead& head, const CdfData& data);

struct AmortiseResult {
  bool skipped = false;  // the same is there
  CdfFit fit;
  std::int64_t heldout_prompts = 0;       // of the evaluation pool; 0: none is there
  Calibration head, marginal;             // on them: of the head, and of one mixture for all prompts
  std::vector<ShrinkageError> shrinkage;  // on them
};

// Collective; the work is the root's. Writes amortised.path: the head and calibration.json.
AmortiseResult run_amortise(comm::Communicator& world, const Settings& settings, const RunText& text);

// [P, D]: the reference's last hidden state, after its final norm, at each prompt's last token.
std::vector<double> prompt_embeddings(const CausalLm& reference, const PromptRows& prompts);

// The mixtures of `prompts` by the head of amortised.path. Collective: the rank that has the reference (`root`)
// computes. UserError where the head is of another reference, reward, temperature or length limit.
std::vector<LogisticMixture> amortised_mixtures(RankContext& context, const Settings& settings,
                                                const Identities& identities, const CausalLm* reference,
                                                const PromptRows& prompts, int root, double& round);

}  // namespace vbon
