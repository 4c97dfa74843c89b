// `vbon sft`: next-token training of a base model on text, which makes the reference. Texts end with the end token, so
// that the model learns to stop.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "vbon/base/error.hpp"
#include "vbon/comm/mpi.hpp"
#include "vbon/train/training_run.hpp"

namespace vbon {

struct SftProgress {
  std::int64_t update = 0, total = 0;
  double loss = 0;  // nats a token of the last update
  double learning_rate = 0;
};

struct SftResult {
  ExitCode code = ExitCode::ok;
  bool skipped = false;                                // the reference was there, made by the same configuration
  double perplexity_before = 0, perplexity_after = 0;  // on sft.heldout; NaN: not measured
  std::int64_t updates = 0, tokens = 0;
};

// Writes model.reference (a Hugging Face folder with `training.json` beside the weights). Collective; gradients are
// summed over all ranks. UserError if the folder exists and was made differently.
SftResult run_sft(comm::Communicator& world, const Settings& settings, const RunText& text,
                  const std::function<void(const SftProgress&)>& observer);

}  // namespace vbon
