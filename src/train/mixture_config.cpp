#include "vbon/train/mixture_config.hpp"

#include <array>

#include "train/problems.hpp"

namespace vbon {

std::span<const std::pair<BondReward, std::string_view>> enum_names(BondReward) {
  static constexpr std::array<std::pair<BondReward, std::string_view>, 2> kNames = {
      {{BondReward::quantile, "quantile"}, {BondReward::full, "full"}}};
  return kNames;
}

std::span<const std::pair<BondQuantile, std::string_view>> enum_names(BondQuantile) {
  static constexpr std::array<std::pair<BondQuantile, std::string_view>, 2> kNames = {
      {{BondQuantile::pool, "pool"}, {BondQuantile::anchor, "anchor"}}};
  return kNames;
}

std::vector<std::string> problems(const AnchorSection& c) {
  Problems p;
  p.unless(c.samples >= 2, "anchor.samples is {}; at least 2 are needed", c.samples);
  p.unless(c.rate > 0 && c.rate <= 1, "anchor.rate is {}; it must lie in (0, 1]", c.rate);
  p.unless(c.every >= 1, "anchor.every is {}; at least 1 step is needed", c.every);
  return p.take();
}

std::vector<std::string> problems(const MixtureSection& c) {
  Problems p;
  p.unless(c.b >= 0 && c.b <= 1, "mixture.b is {}; it must lie in [0, 1]", c.b);
  p.unless(c.samples >= 0, "mixture.samples is {}; it must not be negative", c.samples);
  return p.take();
}

}  // namespace vbon
