#include "vbon/objective/ppo_config.hpp"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace vbon {
namespace {

constexpr std::array<std::pair<Baseline, std::string_view>, 5> kBaselines = {{{Baseline::critic_head, "critic_head"},
                                                                              {Baseline::critic_model, "critic_model"},
                                                                              {Baseline::prefix, "prefix"},
                                                                              {Baseline::rloo, "rloo"},
                                                                              {Baseline::none, "none"}}};
constexpr std::array<std::pair<KlForm, std::string_view>, 2> kKlForms = {
    {{KlForm::penalty, "penalty"}, {KlForm::exact, "exact"}}};
constexpr std::array<std::pair<MissingEos, std::string_view>, 3> kMissingEos = {
    {{MissingEos::as_is, "as_is"}, {MissingEos::penalty, "penalty"}, {MissingEos::score, "score"}}};

void check_ranges(const PpoConfig& c, std::vector<std::string>& found) {
  const auto need = [&](bool good, std::string_view key, auto value, std::string_view demand) {
    if (!good) found.push_back(fmt::format("ppo.{} is {}, but must be {}", key, value, demand));
  };
  const auto finite = [](double x, double at_least) { return std::isfinite(x) && x >= at_least; };
  need(finite(c.clip, 0) && c.clip > 0, "clip", c.clip, "> 0");
  need(finite(c.value_clip, 0), "value_clip", c.value_clip, ">= 0 (0: no limit)");
  need(finite(c.value_coef, 0), "value_coef", c.value_coef, ">= 0");
  need(c.gamma > 0 && c.gamma <= 1, "gamma", c.gamma, "in (0, 1]");
  need(c.lam >= 0 && c.lam <= 1, "lam", c.lam, "in [0, 1]");
  need(c.epochs >= 1, "epochs", c.epochs, ">= 1");
  need(!c.kl_coef || finite(*c.kl_coef, 0), "kl_coef", c.kl_coef.value_or(0), ">= 0");
  need(finite(c.kl_target, 0) && c.kl_target > 0, "kl_target", c.kl_target, "> 0");
  need(finite(c.kl_horizon, 0) && c.kl_horizon > 0, "kl_horizon", c.kl_horizon, "> 0");
  need(finite(c.missing_eos_penalty, 0), "missing_eos_penalty", c.missing_eos_penalty, ">= 0");
  need(std::isfinite(c.missing_eos_score), "missing_eos_score", c.missing_eos_score, "finite");
}

}  // namespace

std::span<const std::pair<Baseline, std::string_view>> enum_names(Baseline) { return kBaselines; }
std::span<const std::pair<KlForm, std::string_view>> enum_names(KlForm) { return kKlForms; }
std::span<const std::pair<MissingEos, std::string_view>> enum_names(MissingEos) { return kMissingEos; }

std::vector<std::string> problems(const PpoConfig& c, LoopMethod method, std::int64_t samples_per_prompt) {
  std::vector<std::string> found;
  check_ranges(c, found);
  const bool critic = c.baseline == Baseline::critic_head || c.baseline == Baseline::critic_model;
  if (method == LoopMethod::vbon) {
    if (c.kl_coef)
      found.push_back(
          "ppo.kl_coef is given, but the KL weight of vbon follows from vbon.N: remove it, or set vbon.beta");
    if (c.adaptive_kl) found.push_back("ppo.adaptive_kl would change N during training: it is for method ppo only");
    if (c.gamma != 1.0)
      found.push_back(
          fmt::format("ppo.gamma is {}, which discounts log F against the KL and so changes N: vbon needs 1", c.gamma));
    if (c.whiten_rewards)
      found.push_back(
          "ppo.whiten_rewards keeps the mean of the token rewards while it scales them, which rewards length: method "
          "ppo only");
  }
  if (!critic && c.gamma != 1.0 && method != LoopMethod::vbon)
    found.push_back(fmt::format("ppo.gamma is {}, but without a critic (ppo.baseline {}) it must be 1", c.gamma,
                                enum_name(c.baseline)));
  if (c.baseline == Baseline::prefix && method != LoopMethod::vbon)
    found.push_back("ppo.baseline prefix foretells log F, which method ppo does not maximise: take a critic or rloo");
  if (c.baseline == Baseline::rloo && samples_per_prompt < 2)
    found.push_back(
        fmt::format("ppo.baseline is rloo, which needs 2 or more samples a prompt in a step, but there is {}: "
                    "raise it, or use critic_head or none",
                    samples_per_prompt));
  if (c.whiten_rewards && !critic)
    found.push_back(
        fmt::format("ppo.whiten_rewards needs a critic, but ppo.baseline is {}: switch it off (whiten_advantages does "
                    "the same there)",
                    enum_name(c.baseline)));
  if (c.whiten_rewards && c.kl_form == KlForm::exact)
    found.push_back(
        "ppo.whiten_rewards needs ppo.kl_form penalty: the gradient of the exact KL is outside the rewards, so its "
        "weight would change");
  return found;
}

}  // namespace vbon
