// Sections of the online methods that mix both directions of the KL: jeffreys, bond and jbond.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vbon/base/fields.hpp"

namespace vbon {

enum class BondReward { quantile, full };
std::span<const std::pair<BondReward, std::string_view>> enum_names(BondReward);

enum class BondQuantile { pool, anchor };
std::span<const std::pair<BondQuantile, std::string_view>> enum_names(BondQuantile);

struct MixtureSection {
  double b = 0.5;
  std::int64_t samples = 2;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.b,
      {.name = "b",
       .help = "(1-b) KL(target || pi), by imitating the best of vbon.N (jbond: of two anchor samples), + b KL(pi || "
               "target), by policy gradient; in [0, 1]"});
    v(c.samples, {.name = "samples",
                  .help = "pool samples imitated a prompt and step, drawn by their probability to be the best of N; 0: "
                          "all, weighted by it",
                  .unit = "samples"});
  }
};

struct BondSection {
  BondReward reward = BondReward::quantile;
  BondQuantile quantile = BondQuantile::pool;
  double gamma = 0;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.reward,
      {.name = "reward",
       .help = "quantile ((N-1) log F, F the share of reference rewards not above) or full (with the term for "
               "equal draws that the authors drop: log w_N); method bond"});
    v(c.quantile,
      {.name = "quantile",
       .help = "F among the reference's samples in the pool, or among anchor.samples drawn in each step from "
               "the anchor, which is then the reference of the KL as well; method bond"});
    v(c.gamma, {.name = "gamma", .help = "weight of one more KL(pi || anchor), in the loss; where there is an anchor"});
  }
};

// A policy that follows the trained one: of jbond, and of bond with bond.quantile anchor.
struct AnchorSection {
  std::int64_t samples = 2;
  double rate = 0.02;
  std::int64_t every = 1;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.samples, {.name = "samples", .help = "drawn from it a prompt and step; jbond: 2", .unit = "samples"});
    v(c.rate, {.name = "rate", .help = "anchor <- (1-rate) anchor + rate policy, in (0, 1]; 1: the policy's own copy"});
    v(c.every, {.name = "every", .help = "online steps between two such moves", .unit = "steps"});
  }
};

// What is wrong, one message a fault; empty: the section can be used.
std::vector<std::string> problems(const MixtureSection& config);
std::vector<std::string> problems(const AnchorSection& config);

}  // namespace vbon
