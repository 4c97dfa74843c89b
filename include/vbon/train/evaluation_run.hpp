// `vbon eval`: one evaluation of a model folder (a run's checkpoint, or any policy; the reference itself is the null
// check) into a folder of files.
#pragma once

#include <filesystem>
#include <string>

#include "vbon/train/evaluate.hpp"
#include "vbon/train/training_run.hpp"

namespace vbon {

struct EvaluationRequest {
  std::filesystem::path policy;  // model folder
  std::filesystem::path output;  // eval.h5 and summary.json go here
  std::int64_t step = 0;         // of the checkpoint
  std::string name;              // of the evaluation: "final", or one of section evaluations
  std::string method;            // "vbon", …, "reference"
  std::string run_id;            // of the run whose checkpoint it is; empty: a model folder
  std::string checkpoint_sha256;
};

// What eval.checkpoint names: a model folder, a checkpoint folder, or, when empty, the run's latest valid checkpoint.
// UserError if there is none. `name` goes into the name of the output folder.
EvaluationRequest evaluation_request(const Settings& settings, const std::string& name = std::string(kMainEvaluation));

// Collective. The evaluation is complete on the root, and written there.
Evaluation run_evaluation(comm::Communicator& world, const Settings& settings, const RunText& text,
                          RewardPrograms& programs, const EvaluationRequest& request);

}  // namespace vbon
