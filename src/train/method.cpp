#include "vbon/train/method.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <iterator>

#include "vbon/base/error.hpp"

namespace vbon {
namespace {

constexpr auto kMethods = std::to_array<MethodTraits>({
    {Method::vbon, "vbon", Learning::online, Aim::weight},
    {Method::ppo, "ppo", Learning::online, Aim::kl_coef},
    {Method::jeffreys, "jeffreys", Learning::mixed, Aim::best_of_n},
    {Method::bond, "bond", Learning::mixed, Aim::best_of_n},
    {Method::jbond, "jbond", Learning::mixed, Aim::anchor},
    {Method::regression, "regression", Learning::offline, Aim::weight},
    {Method::infonca, "infonca", Learning::offline, Aim::weight},
    {Method::bon_sft, "bon_sft", Learning::offline, Aim::best_of_n},
    {Method::dpo, "dpo", Learning::offline, Aim::preference},
    {Method::ipo, "ipo", Learning::offline, Aim::preference},
    {Method::slic, "slic", Learning::offline, Aim::preference},
    {Method::bonbon, "bonbon", Learning::offline, Aim::best_of_n},
});

template <class Chosen>
std::string names(Chosen chosen) {
  std::string list;
  for (const MethodTraits& m : kMethods)
    if (chosen(m)) list += (list.empty() ? "" : ", ") + std::string(m.name);
  return list;
}

}  // namespace

std::span<const std::pair<Method, std::string_view>> enum_names(Method) {
  static constexpr auto kNames = [] {
    std::array<std::pair<Method, std::string_view>, std::size(kMethods)> all;
    std::ranges::transform(kMethods, all.begin(), [](const MethodTraits& m) { return std::pair(m.method, m.name); });
    return all;
  }();
  return kNames;
}

const MethodTraits& traits(Method method) {
  const auto* found = std::ranges::find(kMethods, method, &MethodTraits::method);
  check(found != kMethods.end(), "a method without a row in method.cpp");
  return *found;
}

std::string_view method_help() {
  const auto offline = [](const MethodTraits& m) { return m.learning == Learning::offline; };
  static const std::string kHelp = "online: " + names(std::not_fn(offline)) +
                                   " (ppo is KL-PPO on the reward itself); offline, from the pool: " + names(offline);
  return kHelp;
}

bool is_offline(Method method) { return traits(method).learning == Learning::offline; }

bool is_mixed(Method method) { return traits(method).learning == Learning::mixed; }

bool has_target_n(Method method) {
  const Aim aim = traits(method).aim;
  return aim == Aim::weight || aim == Aim::best_of_n;
}

bool takes_any_weight(Method method) { return traits(method).aim == Aim::weight; }

std::string_view any_weight_methods() {
  static const std::string kNames = names([](const MethodTraits& m) { return m.aim == Aim::weight; });
  return kNames;
}

}  // namespace vbon
