#include "vbon/objective/vbon_config.hpp"

#include <fmt/format.h>

#include <array>
#include <cmath>

#include "vbon/base/error.hpp"
#include "vbon/objective/bon.hpp"

namespace vbon {
namespace {

template <class E, std::size_t K>
using Names = std::array<std::pair<E, std::string_view>, K>;

constexpr Names<Target, 3> kTargets = {
    {{Target::bon, "bon"}, {Target::exp_tilt, "exp_tilt"}, {Target::poisson, "poisson"}}};
constexpr Names<Objective, 3> kObjectives = {{{Objective::exact, "exact"}, {Objective::L, "L"}, {Objective::L1, "L1"}}};
constexpr Names<Estimator, 4> kEstimators = {{{Estimator::add_one, "add_one"},
                                              {Estimator::harmonic, "harmonic"},
                                              {Estimator::interpolated, "interpolated"},
                                              {Estimator::exponential, "exponential"}}};
constexpr Names<Ties, 2> kTies = {{{Ties::uniform, "uniform"}, {Ties::total_order, "total_order"}}};

}  // namespace

std::span<const std::pair<Target, std::string_view>> enum_names(Target) { return kTargets; }
std::span<const std::pair<Objective, std::string_view>> enum_names(Objective) { return kObjectives; }
std::span<const std::pair<Estimator, std::string_view>> enum_names(Estimator) { return kEstimators; }
std::span<const std::pair<Ties, std::string_view>> enum_names(Ties) { return kTies; }

std::vector<std::string> problems(const VbonConfig& config) {
  std::vector<std::string> found;
  if (config.n && config.beta)
    found.push_back("vbon.N and vbon.beta are both given, but N = 1/beta + 1: keep one of them");
  if (!config.n && !config.beta) found.push_back("vbon.N is missing: give vbon.N (>= 1) or vbon.beta (> 0)");
  const bool n_good = !config.n || (std::isfinite(*config.n) && *config.n >= 1.0);
  const bool beta_good = !config.beta || (*config.beta > 0.0 && std::isfinite(1.0 / *config.beta));
  if (!n_good) found.push_back(fmt::format("vbon.N is {}, but Best-of-N needs a finite N >= 1", *config.n));
  if (!beta_good)
    found.push_back(fmt::format("vbon.beta is {}, but must be > 0 (and 1/beta finite): N = 1/beta + 1", *config.beta));
  if (config.scale && !(*config.scale > 0.0 && std::isfinite(*config.scale)))
    found.push_back(fmt::format("vbon.scale is {}, but must be finite and > 0", *config.scale));
  if (config.target != Target::bon && config.objective != Objective::exact)
    found.push_back("vbon.objective must be exact where vbon.target is not bon: the bounds L and L1 are of Best-of-N");
  if (config.n_start && !(std::isfinite(*config.n_start) && *config.n_start >= 1.0))
    found.push_back(fmt::format("vbon.N_start is {}, but N is finite and >= 1", *config.n_start));
  if (config.n_steps < 0) found.push_back(fmt::format("vbon.N_steps is {}; it must not be negative", config.n_steps));
  if (config.n_start.has_value() != (config.n_steps > 0))
    found.push_back("vbon.N_start and vbon.N_steps belong together: give both or none");
  if (config.n_steps > 0 && config.objective == Objective::L1)
    found.push_back("vbon.N_steps goes through real N, but objective L1 is proven for integer N only");
  if (config.objective == Objective::L1 && n_good && beta_good && (config.n || config.beta)) {
    const double n = target_n(config);
    if (n != std::round(n))
      found.push_back(
          fmt::format("vbon.objective is L1, which is proven for integer N only, but N is {}: use an integer N, or "
                      "objective L or exact",
                      n));
  }
  return found;
}

std::vector<std::string> warnings(const VbonConfig& config, long long num_samples) {
  const double n = target_n(config);
  std::vector<std::string> found;
  if (static_cast<double>(num_samples) < 2.0 * n)
    found.push_back(
        fmt::format("the pool has {} samples a prompt, too few for N = {:g}: its best samples decide alone; "
                    "take at least {:.0f} samples a prompt or a smaller N",
                    num_samples, n, std::ceil(2.0 * n)));
  return found;
}

VbonConfig with_n(const VbonConfig& config, double n) {
  VbonConfig one = config;
  one.n = n;
  one.beta.reset();
  return one;
}

VbonConfig at_step(const VbonConfig& config, std::int64_t step) {
  VbonConfig now = config;
  if (config.n_steps == 0 || step >= config.n_steps) return now;
  const double share = static_cast<double>(step) / static_cast<double>(config.n_steps);
  now.n = *config.n_start * std::pow(target_n(config) / *config.n_start, share);
  now.beta.reset();
  return now;
}

double target_n(const VbonConfig& config) {
  check(config.n.has_value() || config.beta.has_value(), "a valid vbon section");
  if (config.n) return *config.n;
  const double n = n_from_beta(*config.beta);
  // 1/beta of a decimal fraction (0.01, 1/3 …) misses its integer by an ulp or two, which L1 would refuse.
  const double whole = std::round(n);
  return std::abs(n - whole) < 1e-12 * whole ? whole : n;
}

}  // namespace vbon
