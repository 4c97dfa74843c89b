// Section `vbon`: which Best-of-N is the target, by which objective, from which estimate of log F.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vbon/base/fields.hpp"

namespace vbon {

enum class Target { bon, exp_tilt, poisson };
enum class Objective { exact, L, L1 };
enum class Estimator { add_one, harmonic, interpolated, exponential };
enum class Ties { uniform, total_order };

std::span<const std::pair<Target, std::string_view>> enum_names(Target);
std::span<const std::pair<Objective, std::string_view>> enum_names(Objective);
std::span<const std::pair<Estimator, std::string_view>> enum_names(Estimator);
std::span<const std::pair<Ties, std::string_view>> enum_names(Ties);

struct VbonConfig {
  Target target = Target::bon;
  std::optional<double> n;
  std::optional<double> beta;
  std::optional<double> n_start;
  std::int64_t n_steps = 0;
  Objective objective = Objective::exact;
  Estimator estimator = Estimator::add_one;
  Ties ties = Ties::uniform;
  std::optional<double> scale;

  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.target, {.name = "target",
                 .help = "what N is of: bon (Best-of-N), exp_tilt (e^{F/beta}: the highest win rate for its KL) or "
                         "poisson (the best of 1 + Poisson(N-1) samples)"});
    v(c.n,
      {.name = "N", .help = "the N of Best-of-N, a real number >= 1 (give this or beta); 1: stay at the reference"});
    v(c.beta, {.name = "beta", .help = "weight of the KL term against log F, > 0: another way to give N = 1/beta + 1"});
    v(c.n_start,
      {.name = "N_start", .help = "N of the first online step, which grows to N by equal factors over N_steps"});
    v(c.n_steps, {.name = "N_steps", .help = "online steps until N is reached; 0: N from the start", .unit = "steps"});
    v(c.objective, {.name = "objective",
                    .help = "exact: -KL to the BoN distribution, ties included; L: lower bound (N-1) E log F - KL; "
                            "L1: the lower bound of Theorem 3 (integer N)"});
    v(c.estimator, {.name = "estimator",
                    .help = "log F from the pool, for L and L1 (exact has its own form): add_one, harmonic, "
                            "interpolated or exponential"});
    v(c.ties, {.name = "ties",
               .help = "equal rewards: uniform (any of the tied may be the best) or total_order "
                       "(reward, then token ids)"});
    v(c.scale, {.name = "scale",
                .help = "factor on the whole objective, which is written in nats; default 1/(N-1), "
                        "which makes the KL weight beta"});
  }
};

// What is wrong, one message a fault, each naming its key and what to do; empty: the section can be used.
std::vector<std::string> problems(const VbonConfig& config);
// Worth a warning, not an error: a pool of m samples a prompt resolves N only when m >= 2N.
std::vector<std::string> warnings(const VbonConfig& config, long long num_samples);

// N of a valid config, from N or from beta.
double target_n(const VbonConfig& config);
// The section with another N: the target of a reward beside the main one.
VbonConfig with_n(const VbonConfig& config, double n);
// The section as it is at an online step, counted from 0: with the N of the schedule.
VbonConfig at_step(const VbonConfig& config, std::int64_t step);

}  // namespace vbon
