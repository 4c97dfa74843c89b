// eval.h5 (`vbon.eval`): K samples a prompt of a checkpoint's policy, their exact KL to the reference, their rewards,
// the win rates against the pool's samples, best-of-N's own curves from the same pool, and every figure of the printed
// table.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "vbon/store/provenance.hpp"
#include "vbon/store/samples.hpp"

namespace vbon {

inline constexpr std::string_view kEvalFormat = "vbon.eval";
inline constexpr std::int64_t kEvalSchema = 1;

struct EvalHeader {
  Provenance provenance;             // with pool_sha256; its seed is the training seed
  std::string evaluation = "final";  // its name in the configuration: the run's own, or one of `evaluations`
  std::string method;                // "vbon", "ppo", …, "reference"
  double n = 1;                      // of Best-of-N
  double beta = 0;                   // weight of the KL, 1 / (N - 1)
  std::int64_t training_seed = 0;
  std::int64_t evaluation_seed = 0;
  std::int64_t bootstrap_seed = 0;
  double temperature = 1;
  std::string checkpoint_sha256;  // of its parts
  std::int64_t checkpoint_step = 0;
  std::vector<std::int64_t> eos_ids;
};

// Curves of best-of-N from the pool, one value an N.
struct BonCurve {
  std::vector<double> n, kl, win, reward, se;  // [C]; se: of the win rate over prompts
};

struct EvalFile {
  EvalHeader header;
  SampleBlock block;        // [P, K]: prompts, samples, rewards
  std::vector<float> kl;    // [P, K] exact per-token KL to the reference, summed over the response, nats
  std::vector<double> win;  // [P] mean over the K samples of the win rate against the pool, ties half
  BonCurve bon;
  std::map<std::string, double> summary;  // every figure of the table; NaN: not measured
  std::string content_sha256;
};

// Checks everything that the reader would, commits; returns the content's SHA-256.
std::string write_eval(const fs::path& path, const EvalFile& eval);
EvalFile read_eval(const fs::path& path);  // UserError when the file contradicts the schema or itself

}  // namespace vbon
