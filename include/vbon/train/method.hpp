// The methods of train.method: the one list of them, with what sets them apart. A new one gets a value here, a row in
// method.cpp and its loss: offline in pool_losses.cpp, online in method_objective.cpp.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace vbon {

enum class Method { vbon, ppo, jeffreys, bond, jbond, regression, infonca, bon_sft, dpo, ipo, slic, bonbon };
std::span<const std::pair<Method, std::string_view>> enum_names(Method);

// What a method learns from: its own samples, these with an imitation of the best beside them (section mixture: both
// directions of the KL), or the pool alone.
enum class Learning { online, mixed, offline };

// What says how far from the reference it should end. `weight`: any w of section vbon and of more rewards; `best_of_n`:
// vbon.N alone; kl_coef and preference: the beta of that section; `anchor`: an anchor that it runs away from.
enum class Aim { weight, best_of_n, kl_coef, preference, anchor };

struct MethodTraits {
  Method method;
  std::string_view name;  // in configurations, files and figures
  Learning learning;
  Aim aim;
};

const MethodTraits& traits(Method method);
std::string_view method_help();  // of train.method: all names, by what they learn from

bool is_offline(Method method);
bool is_mixed(Method method);
bool has_target_n(Method method);  // has a Best-of-N, or a w like it, for its target
bool takes_any_weight(Method method);
std::string_view any_weight_methods();  // names of those that do

}  // namespace vbon
