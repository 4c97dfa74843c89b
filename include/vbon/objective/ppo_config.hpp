// Section `ppo`: the policy-gradient loop that vBoN (online) and KL-PPO share.
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

enum class Baseline { critic_head, critic_model, prefix, rloo, none };
enum class KlForm { penalty, exact };
enum class MissingEos { as_is, penalty, score };

std::span<const std::pair<Baseline, std::string_view>> enum_names(Baseline);
std::span<const std::pair<KlForm, std::string_view>> enum_names(KlForm);
std::span<const std::pair<MissingEos, std::string_view>> enum_names(MissingEos);

struct PpoConfig {
  double clip = 0.2;
  double value_clip = 0.2;
  double value_coef = 0.2;
  double gamma = 1.0;
  double lam = 0.95;
  int epochs = 4;
  Baseline baseline = Baseline::critic_head;
  KlForm kl_form = KlForm::penalty;
  std::optional<double> kl_coef;
  bool adaptive_kl = false;
  double kl_target = 6.0;
  double kl_horizon = 10000.0;
  bool whiten_advantages = true;
  bool whiten_rewards = false;
  MissingEos missing_eos = MissingEos::as_is;
  double missing_eos_penalty = 1.0;
  double missing_eos_score = -1.0;

  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.clip, {.name = "clip", .help = "the probability ratio's advantage is clipped outside 1 -+ clip, > 0"});
    v(c.value_clip,
      {.name = "value_clip", .help = "values move at most this far from those of the rollout; 0: no limit"});
    v(c.value_coef, {.name = "value_coef", .help = "weight of the value loss beside the policy loss"});
    v(c.gamma, {.name = "gamma", .help = "discount a token, in (0, 1]; must be 1 for vbon and for rloo or none"});
    v(c.lam, {.name = "lam", .help = "lambda of generalised advantage estimation, in [0, 1]; critics and prefix"});
    v(c.epochs, {.name = "epochs", .help = "passes over each batch of rollouts"});
    v(c.baseline,
      {.name = "baseline",
       .help = "critic_head (value head on the policy's trunk), critic_model (a model of its own), prefix (what "
               "the reward of a response's beginning foretells, fitted on a pool with "
               "pool.prefix_every), rloo (mean of the prompt's other samples) or none"});
    v(c.kl_form, {.name = "kl_form",
                  .help = "KL to the reference: penalty (sampled, in each token's reward) or exact (over the "
                          "vocabulary: its own gradient, and the KL still to come in the reward)"});
    v(c.kl_coef, {.name = "kl_coef",
                  .help = "weight of the KL against the reward, method ppo only, default 0.05; for vbon N decides"});
    v(c.adaptive_kl, {.name = "adaptive_kl", .help = "move kl_coef towards kl_target; method ppo only"});
    v(c.kl_target, {.name = "kl_target", .help = "KL a response that adaptive_kl aims at", .unit = "nats"});
    v(c.kl_horizon, {.name = "kl_horizon", .help = "responses over which adaptive_kl corrects", .unit = "responses"});
    v(c.whiten_advantages, {.name = "whiten_advantages",
                            .help = "give the advantages of a batch mean 0 and variance 1; the exact KL gradient is "
                                    "divided by the same number, so N stays"});
    v(c.whiten_rewards, {.name = "whiten_rewards",
                         .help = "give token rewards (KL penalty included) variance 1; method ppo with a critic and "
                                 "kl_form penalty"});
    v(c.missing_eos,
      {.name = "missing_eos",
       .help = "responses cut at the length limit: as_is (scored like any other), penalty (scored lower) or score (all "
               "the same)"});
    v(c.missing_eos_penalty, {.name = "missing_eos_penalty",
                              .help = "subtracted from the score (after vbon.scale) of "
                                      "a cut response when missing_eos is penalty"});
    v(c.missing_eos_score, {.name = "missing_eos_score",
                            .help = "the score (after vbon.scale) of every cut response when missing_eos is score"});
  }
};

// Who runs the loop: vbon derives its KL weight from N, ppo takes kl_coef.
enum class LoopMethod { vbon, ppo };

// What is wrong, one message a fault; empty: the section can be used. Everything that would change N behind the user's
// back (a KL weight of its own, an adaptive one, discounting, whitened rewards) is refused for vbon.
// samples_per_prompt: of an online step.
std::vector<std::string> problems(const PpoConfig& config, LoopMethod method, std::int64_t samples_per_prompt);

}  // namespace vbon
