// The amortised F: a linear head on the reference's embedding of a prompt gives the mixture of logistics that the
// rewards of its responses follow. It is learned from a pool by maximum likelihood, answers for prompts that the pool
// lacks, and serves as a prior beside the counts where the pool has few samples.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vbon/base/fields.hpp"
#include "vbon/objective/logistic_mixture.hpp"

namespace vbon {

struct AmortisedSection {
  std::string path;
  std::optional<double> weight;
  std::int64_t components = 4;
  std::int64_t updates = 400;
  std::int64_t batch = 256;
  double learning_rate = 0.01;
  double weight_decay = 0.1;
  double heldout = 0.2;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.path, {.name = "path", .help = "folder of the head: written by `vbon amortise`, read by training with weight"});
    v(c.weight,
      {.name = "weight",
       .help = "training counts the head as so many samples beside a prompt's own in the pool, > 0 (`vbon amortise` "
               "measures which is best); alone where the pool lacks the prompt; none: not used",
       .unit = "samples"});
    v(c.components, {.name = "components", .help = "logistic distributions a mixture"});
    v(c.updates, {.name = "updates", .help = "at most; held-out prompts say when to stop", .unit = "updates"});
    v(c.batch, {.name = "batch", .help = "prompts an update, each with all its samples", .unit = "prompts"});
    v(c.learning_rate, {.name = "learning_rate", .help = "of Adam, constant"});
    v(c.weight_decay, {.name = "weight_decay", .help = "of what depends on the prompt, decoupled, >= 0"});
    v(c.heldout, {.name = "heldout", .help = "share of the pool's prompts that decide when to stop, in (0, 1)"});
  }
};
std::vector<std::string> problems(const AmortisedSection& config);

struct CdfHead {
  std::int64_t components = 0;         // K
  std::vector<double> weight;          // [3K, D]: of the weights' logits, the means, the log scales
  std::vector<double> bias;            // [3K]
  std::vector<double> shift, spread;   // [D] mean and standard deviation of the embedding
  double centre = 0, unit = 1;         // of rewards
  double least_scale = 1e-3;           // in units; ties cannot make a density infinite
  double round = 0;                    // rewards are multiples of it
  std::string reference_sha256, made;  // what the rewards were of: reward, output, temperature, length limit

  std::int64_t width() const { return static_cast<std::int64_t>(shift.size()); }  // D
  LogisticMixture mixture(std::span<const double> embedding) const;               // in rewards
};

// Embeddings [P, D] and rewards [P, M], row-major.
struct CdfData {
  std::int64_t num_prompts = 0;
  std::vector<double> embeddings;
  std::span<const float> rewards;

  std::int64_t width() const { return static_cast<std::int64_t>(embeddings.size()) / num_prompts; }
  std::int64_t num_samples() const { return std::ssize(rewards) / num_prompts; }
  std::span<const double> embedding(std::int64_t prompt) const;
  std::span<const float> rewards_of(std::int64_t prompt) const;
};

struct CdfFit {
  CdfHead head;
  std::int64_t updates = 0;                 // that the held-out prompts chose; 0: the prompt tells nothing
  double nll_marginal = 0, nll_prompt = 0;  // mean -log density on the held-out prompts: of one mixture for all, and
                                            // of the head at its best, in nats (rewards in units)
};
// Deterministic in data, configuration and seed. UserError for fewer than 5 prompts, or rewards that are all the same.
CdfFit fit_cdf_head(const CdfData& data, const AmortisedSection& config, double round, std::uint64_t seed);

// Mean -log density of the rewards, in units of the head.
double mean_nll(const CdfHead& head, const CdfData& data);

// config.json {"model_type": "vbon_cdf", …} and model.safetensors in F64.
void save_cdf_head(const CdfHead& head, const std::filesystem::path& folder);
CdfHead load_cdf_head(const std::filesystem::path& folder);

}  // namespace vbon
