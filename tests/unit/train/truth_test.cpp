// The truth test: a language model small enough to list every string, built from the same modules. The online loop on
// the exact objective with enumerated F must end at the Best-of-N distribution, and nowhere else.
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/log_softmax.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "vbon/generate/engine.hpp"
#include "vbon/model/hf_weights.hpp"
#include "vbon/model/vocab_head.hpp"
#include "vbon/objective/bon.hpp"
#include "vbon/objective/enumerated.hpp"
#include "vbon/train/learner.hpp"

namespace vbon {
namespace {

constexpr std::int64_t kVocab = 5, kLength = 4, kPrompts = 2;  // token 0 ends a string: 341 strings a prompt
constexpr const char* kConfig = R"({"model_type": "llama", "vocab_size": 5, "hidden_size": 48, "intermediate_size": 96,
  "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 16, "rms_norm_eps": 1e-5,
  "tie_word_embeddings": false, "eos_token_id": 0})";

using String = std::vector<std::int32_t>;

std::vector<String> all_strings() {
  std::vector<String> done, open = {{}};
  while (!open.empty()) {
    std::vector<String> longer;
    for (const String& s : open)
      for (std::int32_t token = 0; token < kVocab; ++token) {
        String next = s;
        next.push_back(token);
        (token == 0 || static_cast<std::int64_t>(next.size()) == kLength ? done : longer).push_back(next);
      }
    open = std::move(longer);
  }
  return done;
}

struct World {
  CausalLm reference = random_causal_lm(parse_lm_spec(kConfig, "truth test"), 11, 0.25);
  std::vector<String> strings = all_strings();
  PromptRows prompts;
  std::vector<std::vector<double>> rewards, log_ref;  // of each prompt, each string
  std::vector<std::vector<Quantiles>> quantiles;
  std::vector<std::map<float, std::size_t>> by_reward;

  World() {
    prompts.add(0, "a", std::vector<std::int32_t>{1, 2});
    prompts.add(1, "b", std::vector<std::int32_t>{3});
    const RandomStream stream(5, Purpose::sample);
    for (std::int64_t p = 0; p < kPrompts; ++p) {
      rewards.emplace_back();
      by_reward.emplace_back();
      for (std::size_t s = 0; s < strings.size(); ++s) {
        // Some structure (the string's sum) and a tie-free remainder: prefixes carry information, as they do in language.
        double sum = 0;
        for (const std::int32_t t : strings[s]) sum += t;
        rewards.back().push_back(static_cast<float>(sum * (p == 0 ? 0.5 : -0.3) + stream.uniform(p, static_cast<std::int32_t>(s))));
        by_reward.back()[static_cast<float>(rewards.back().back())] = s;
      }
      log_ref.push_back(log_probabilities(reference, p));
      std::vector<double> pi;
      for (const double l : log_ref.back()) pi.push_back(std::exp(l));
      quantiles.push_back(enumerated_quantiles(pi, rewards.back(), Ties::uniform));
    }
  }

  // Of every string after prompt p.
  std::vector<double> log_probabilities(const CausalLm& model, std::int64_t p) const {
    const at::NoGradGuard no_grad;
    std::vector<Sequence> sequences;
    for (const String& s : strings) sequences.push_back({prompts.tokens_of(p), s});
    const PackedSequences packed = pack(sequences, at::kCPU);
    const at::Tensor logp = token_statistics(response_hidden(model, packed, 0, {}), model.head, packed.targets, 1.0).logp;
    std::vector<double> sums;
    for (std::size_t i = 0; i < strings.size(); ++i)
      sums.push_back(logp.narrow(0, packed.offset[i], packed.offset[i + 1] - packed.offset[i]).sum(at::kDouble).item<double>());
    return sums;
  }

  float reward(std::int64_t p, const String& string) const {
    const auto it = std::find(strings.begin(), strings.end(), string);
    return static_cast<float>(rewards[static_cast<std::size_t>(p)][static_cast<std::size_t>(it - strings.begin())]);
  }

  RewardRanks ranks() const {
    const auto of = [this](std::int64_t row, float reward) {
      return quantiles[static_cast<std::size_t>(row)][by_reward[static_cast<std::size_t>(row)].at(reward)];
    };
    return {.log_f = [of](std::int64_t row, float reward) {
              const Quantiles q = of(row, reward);
              return LogF{.log_f = std::log(std::max(q.f_strict, 1e-300)), .exact = q};
            },
            .win = [of](std::int64_t row, float reward) {
              const Quantiles q = of(row, reward);
              return 0.5 * (q.f_strict + q.f);
            }};
  }

  // Mean over prompts of KL(policy || BoN-N).
  double kl_to_bon(const CausalLm& policy, double n) const {
    double sum = 0;
    for (std::size_t p = 0; p < kPrompts; ++p) {
      std::vector<double> pi_ref;
      for (const double l : log_ref[p]) pi_ref.push_back(std::exp(l));
      sum += enumerated_kl(log_probabilities(policy, static_cast<std::int64_t>(p)), enumerated_log_bon(pi_ref, quantiles[p], n));
    }
    return sum / kPrompts;
  }
};

Settings settings_for(double n) {
  Settings s;
  s.run.seed = 1;
  s.sampling.max_new_tokens = kLength;
  s.sampling.slots = 512;
  s.train.steps = 400;
  s.train.prompts_per_step = kPrompts;
  s.train.samples_per_prompt = 128;
  s.train.micro_batch = 512;
  s.vbon.n = n;
  s.ppo.baseline = Baseline::rloo;
  s.ppo.kl_form = KlForm::exact;
  s.ppo.epochs = 2;
  s.optimizer = {.learning_rate = 6e-3, .beta2 = 0.99, .weight_decay = 0, .schedule = Schedule::cosine, .warmup = 10};
  return s;
}

RolloutBatch draw(const World& world, const CausalLm& policy, const Settings& settings, std::int64_t step) {
  GenerateRequest request{.num_samples = static_cast<std::int32_t>(settings.train.samples_per_prompt)};
  for (std::int64_t p = 0; p < kPrompts; ++p) request.prompts.push_back({p, world.prompts.tokens_of(p)});
  const std::vector<Completion> drawn =
      generate(policy, request, {.sampling = settings.sampling, .eos_ids = {0}, .stream = RandomStream(1, Purpose::rollout, 0, step)});
  RolloutBatch batch;
  batch.max_new_tokens = kLength;
  batch.tokens.assign(drawn.size() * kLength, -1);
  batch.logp_behavior.assign(drawn.size() * kLength, std::nanf(""));
  for (std::size_t i = 0; i < drawn.size(); ++i) {
    batch.prompt_id.push_back(drawn[i].prompt);
    batch.length.push_back(static_cast<std::int32_t>(drawn[i].tokens.size()));
    batch.finished.push_back(drawn[i].finished ? 1 : 0);
    std::copy(drawn[i].tokens.begin(), drawn[i].tokens.end(), batch.tokens.begin() + static_cast<std::ptrdiff_t>(i * kLength));
    std::copy(drawn[i].logp.begin(), drawn[i].logp.end(), batch.logp_behavior.begin() + static_cast<std::ptrdiff_t>(i * kLength));
    batch.reward.push_back(world.reward(drawn[i].prompt, drawn[i].tokens));
  }
  return batch;
}

struct Outcome {
  double kl_before = 0, kl_after = 0, monitor = 0;
  double effective_n = 0;  // mean over prompts
};

Outcome train(const World& world, const Settings& settings, double n) {
  at::set_num_threads(1);  // tiny tensors
  Outcome outcome{.kl_before = world.kl_to_bon(world.reference, n)};
  const auto learner = make_learner(world.reference, settings);
  comm::LocalCollectives local;
  Phases phases;
  const LearnerTools tools{.settings = settings, .learners = local, .phases = phases, .prompts = world.prompts, .ranks = world.ranks()};
  const std::vector<std::int64_t> rows = {0, 1};
  for (std::int64_t step = 0; step < settings.train.steps; ++step) {
    RolloutBatch batch = draw(world, learner->policy.model, settings, step);
    const std::int64_t per_step = updates_per_step(settings);
    const Metrics metrics = online_step(*learner, tools, batch, rows, step, step * per_step, settings.train.steps * per_step);
    EXPECT_LT(metrics.at("ratio_error"), 1e-4);
    outcome.monitor = metrics.at("kl_to_bon");
  }
  outcome.kl_after = world.kl_to_bon(learner->policy.model, n);
  for (std::size_t p = 0; p < kPrompts; ++p)
    outcome.effective_n +=
        effective_n(world.log_probabilities(learner->policy.model, static_cast<std::int64_t>(p)), world.quantiles[p]) / kPrompts;
  return outcome;
}

class Truth : public testing::TestWithParam<double> {};

TEST_P(Truth, online_loop_on_the_exact_objective_reaches_best_of_n) {
  const World world;
  const double n = GetParam();
  const Outcome outcome = train(world, settings_for(n), n);
  RecordProperty("kl_after", std::to_string(outcome.kl_after));
  std::printf("N=%g: KL(pi || pi_bon) %.4f -> %.5f nats, monitor %.4f, effective N %.3f\n", n, outcome.kl_before, outcome.kl_after,
              outcome.monitor, outcome.effective_n);
  EXPECT_NEAR(outcome.kl_before, bon_reverse_kl(n), 0.15 * bon_reverse_kl(n));  // its value for continuous rewards
  EXPECT_LE(outcome.kl_after, 0.02);
  EXPECT_NEAR(outcome.effective_n, n, 0.05 * n);
}

INSTANTIATE_TEST_SUITE_P(BestOf, Truth, testing::Values(2.0, 4.0, 16.0),
                         [](const auto& test_info) { return "N" + std::to_string(static_cast<int>(test_info.param)); });

}  // namespace
}  // namespace vbon
