// What is measured of a batch, and gradients through it, against the definitions; nothing depends on micro-batches,
// kept logits or who computed the trunk.
#include "vbon/train/batch_pass.hpp"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <numeric>
#include <set>

#include "unit/train/toy_world.hpp"
#include "vbon/base/error.hpp"
#include "vbon/model/vocab_head.hpp"
#include "vbon/train/carried_trunk.hpp"

namespace vbon {
namespace {

using test::at_index;

constexpr double kTemperature = 0.8;

struct World {
  CausalLm reference;
  Policy policy;
  FlatParameters flat;
  Critic critic;
  FlatParameters of_critic;
  PromptRows prompts = test::toy_prompts();
  RolloutBatch batch = test::toy_rollouts(prompts);
  std::vector<Sequence> sequences;

  explicit World(std::int64_t last, Baseline baseline = Baseline::critic_head, test::ToyShape shape = {})
      : reference(test::toy_lm(shape, 31)), policy(make_policy(reference, {last})) {
    at::set_num_threads(1);  // tiny tensors: threads would only cut the sums elsewhere
    const auto trained = trained_parameters(policy);
    flat = FlatParameters(trained);
    tie_again(policy.model);
    test::disturb_all(trained, 0.05, 70);
    critic = make_critic(baseline, reference, {last});
    const auto of_values = trained_parameters(critic);
    if (critic.exists()) of_critic = FlatParameters(of_values);
    if (baseline == Baseline::critic_model) tie_again(critic.model.model);
    test::disturb_all(of_values, 0.2, 90);
    for (std::size_t i = 0; i < at_index(batch.num_sequences()); ++i)
      sequences.push_back(test::sequence_of(prompts, batch, i));
  }
  BatchPass pass(std::int64_t micro_batch, double cache_mib = 1024) const {
    return {reference, policy, sequences, {kTemperature, micro_batch, cache_mib}};
  }
};

void expect_row(const at::Tensor& table, std::int64_t i, const at::Tensor& want, const char* what) {
  const std::int64_t length = want.size(0);
  const std::vector<double> got = test::numbers(table[i]), wanted = test::numbers(want);
  for (std::size_t t = 0; t < got.size(); ++t) {
    const double value = t < at_index(length) ? wanted[t] : 0;  // nothing behind the response
    EXPECT_NEAR(got[t], value, value == 0 ? 0 : 2e-5 * std::max(1.0, std::abs(value))) << what << ' ' << i << ' ' << t;
  }
}

struct Case {
  std::int64_t last;
  Baseline baseline;
  test::ToyShape shape;
};

class Measures : public testing::TestWithParam<Case> {};

TEST_P(Measures, every_token_by_its_definition) {
  const World world(GetParam().last, GetParam().baseline, GetParam().shape);
  for (const std::int64_t micro : {1, 4, 9})
    for (const double cache : {0.0, 1024.0}) {
      BatchPass pass = world.pass(micro, cache);
      Measured measured = measure(pass, world.policy, world.critic, std::array{Share{0, 9}}, test::kToyTokens);
      measured = measure(pass, world.policy, world.critic, std::array{Share{0, 9}},
                         test::kToyTokens);  // from what the first left behind
      EXPECT_EQ(pass.trunks_computed(), world.policy.has_trunk() ? 9 : 0);
      EXPECT_FALSE(measured.logp.requires_grad());
      for (std::int64_t i = 0; i < 9; ++i) {
        const at::NoGradGuard no_grad;
        const auto want =
            test::tokens_by_definition(world.policy.model, world.reference, world.sequences[at_index(i)], kTemperature);
        expect_row(measured.logp, i, want.logp, "logp");
        expect_row(measured.logp_reference, i, want.logp_ref, "logp_ref");
        expect_row(measured.kl, i, want.kl, "kl");
        expect_row(measured.entropy, i, want.entropy, "entropy");
        if (!world.critic.exists()) continue;
        const at::Tensor hidden = world.critic.kind == Baseline::critic_head
                                      ? want.hidden
                                      : test::rows_that_predict(world.critic.model.model, world.sequences[at_index(i)]);
        expect_row(measured.values, i, (hidden * world.critic.head.weight).sum(1) + world.critic.head.bias, "value");
      }
      EXPECT_EQ(measured.values.defined(), world.critic.exists());
    }
}

INSTANTIATE_TEST_SUITE_P(BatchPass, Measures,
                         testing::Values(Case{0, Baseline::critic_head, {}},
                                         Case{1, Baseline::critic_head, {.tied = false}},
                                         Case{2, Baseline::critic_model, {}},
                                         Case{0, Baseline::critic_model, {.tied = false}},
                                         Case{3, Baseline::none, {.kind = test::ToyKind::gpt2}},
                                         Case{1, Baseline::rloo, {.kind = test::ToyKind::neox}}));

TEST(BatchPass, measures_the_asked_sequences_alone) {
  const World world(1);
  BatchPass whole = world.pass(4), part = world.pass(4);
  const Measured all = measure(whole, world.policy, world.critic, std::array{Share{0, 9}}, test::kToyTokens);
  const Measured some = measure(part, world.policy, world.critic, std::array{Share{3, 7}}, test::kToyTokens);
  EXPECT_EQ(part.trunks_computed(), 4);
  for (std::int64_t i = 0; i < 9; ++i) {
    const bool asked = i >= 3 && i < 7;
    for (const auto& [got, want] :
         {std::pair(some.logp, all.logp), std::pair(some.kl, all.kl), std::pair(some.values, all.values)})
      EXPECT_LE((got[i] - (asked ? want[i] : at::Tensor(want[i] * 0.0))).abs().max().item<double>(), 1e-5) << i;
  }
  const Measured none = measure(part, world.policy, world.critic, std::array{Share{5, 5}},
                                test::kToyTokens);  // a learner without a share
  EXPECT_EQ(none.logp.abs().sum().item<float>(), 0);
}

TEST(BatchPass, a_given_trunk_is_used_and_not_computed) {
  const World world(1);
  BatchPass computed = world.pass(9), given = world.pass(4), wrong = world.pass(4);
  const Measured want = measure(computed, world.policy, world.critic, std::array{Share{0, 9}}, test::kToyTokens);
  for (std::int64_t i = 0; i < 9; ++i) {
    const PackedSequences alone = pack(std::span(world.sequences).subspan(at_index(i), 1), at::kCPU);
    const at::Tensor rows = run_trunk(world.reference, alone, 2).front();
    given.give_trunk(i, rows);
    wrong.give_trunk(i, rows * 1.01);
  }
  const Measured got = measure(given, world.policy, world.critic, std::array{Share{0, 9}}, test::kToyTokens);
  EXPECT_EQ(given.trunks_computed(), 0);
  EXPECT_LE((got.logp - want.logp).abs().max().item<double>(), 1e-5);
  EXPECT_GT((measure(wrong, world.policy, world.critic, std::array{Share{0, 9}}, test::kToyTokens).logp - want.logp)
                .abs()
                .max()
                .item<double>(),
            1e-4);
  EXPECT_THROW(given.give_trunk(0, want.logp), InternalError);
}

// As the sampler leaves them: the rows of prompt and response, but for the last token.
std::vector<Completion> completions_of(const World& world) {
  std::vector<Completion> completions;
  for (std::size_t i = 0; i < world.sequences.size(); ++i) {
    const Sequence& s = world.sequences[i];
    const PackedSequences alone = pack(std::span(world.sequences).subspan(i, 1), at::kCPU);
    completions.push_back({.prompt = static_cast<std::int64_t>(i) / test::kToySamples,
                           .tokens = {s.response.begin(), s.response.end()},
                           .trunk = run_trunk(world.reference, alone, 2).front()});
  }
  return completions;
}

TEST(BatchPass, a_carried_trunk_is_used_for_the_sequences_that_have_one) {
  World world(1);
  BatchPass computed = world.pass(9), given = world.pass(4), part = world.pass(9), none = world.pass(9);
  const std::array all = {Share{0, 9}};
  const Measured want = measure(computed, world.policy, world.critic, all, test::kToyTokens);
  give_carried_trunk(none, world.batch, all, world.policy);
  measure(none, world.policy, world.critic, all, test::kToyTokens);
  EXPECT_EQ(none.trunks_computed(), 9);

  world.batch.trunk = carried_trunk(completions_of(world));
  std::int64_t rows = 0;  // each prompt's once, each response's but the last
  for (std::int64_t p = 0; p < test::kToyPrompts; ++p) rows += std::ssize(world.prompts.tokens_of(p));
  for (const std::int32_t length : world.batch.length) rows += length - 1;
  EXPECT_EQ(std::ssize(world.batch.trunk.values), rows * world.reference.spec.hidden_size);
  give_carried_trunk(given, world.batch, all, world.policy);
  const Measured got = measure(given, world.policy, world.critic, all, test::kToyTokens);
  EXPECT_EQ(given.trunks_computed(), 0);
  for (const auto& [one, other] : {std::pair(got.logp, want.logp), std::pair(got.logp_reference, want.logp_reference),
                                   std::pair(got.kl, want.kl), std::pair(got.values, want.values)})
    EXPECT_LE((one - other).abs().max().item<double>(), 1e-5);

  // A share that begins in the middle of a prompt's samples, and a sample that none are carried for.
  const std::array some = {Share{1, 8}};
  std::vector<Completion> fewer = completions_of(world);
  fewer.erase(fewer.begin() + 4);
  CarriedTrunk& carried = world.batch.trunk = carried_trunk(fewer);
  carried.rows.insert(carried.rows.begin() + 4, 0);
  give_carried_trunk(part, world.batch, some, world.policy);
  const Measured of_part = measure(part, world.policy, world.critic, some, test::kToyTokens);
  EXPECT_EQ(part.trunks_computed(), 1);
  EXPECT_LE((of_part.kl - want.kl).narrow(0, 1, 7).abs().max().item<double>(), 1e-5);

  carried.rows[8] += 1;  // of another sequence
  BatchPass wrong = world.pass(9);
  EXPECT_THROW(give_carried_trunk(wrong, world.batch, all, world.policy), InternalError);
}

// Gradient of a weighted sum of all that a loss uses, by one size of micro-batches.
at::Tensor gradient_by(World& world, std::int64_t micro_batch) {
  world.flat.zero_gradients();
  BatchPass pass = world.pass(micro_batch);
  std::vector<std::int64_t> members = {8, 2, 0, 5, 7, 1, 3, 6, 4};
  std::set<std::int64_t> seen;
  for (const auto& group : pass.split(members)) {
    EXPECT_LE(std::ssize(group), micro_batch);
    seen.insert(group.begin(), group.end());
    const BatchPass::Micro micro = pass.micro(group);
    const TokenStatistics s = token_statistics(pass.policy_hidden(micro), world.policy.model.head, micro.packed.targets,
                                               kTemperature, pass.reference_logits(micro));
    at::Tensor loss = s.kl.sum() * 0.7 - s.entropy.sum() * 0.2;
    for (std::size_t k = 0; k < group.size(); ++k) {
      const std::int64_t begin = micro.packed.offset[k], count = micro.packed.offset[k + 1] - begin;
      loss = loss + s.logp.narrow(0, begin, count).sum() * (1.0 + 0.3 * static_cast<double>(group[k]));
    }
    loss.backward();
  }
  EXPECT_EQ(seen.size(), 9u);
  return world.flat.gradients().clone();
}

at::Tensor gradient_by_definition(World& world) {
  world.flat.zero_gradients();
  for (std::size_t i = 0; i < 9; ++i) {
    const auto t = test::tokens_by_definition(world.policy.model, world.reference, world.sequences[i], kTemperature);
    (t.kl.sum() * 0.7 - t.entropy.sum() * 0.2 + t.logp.sum() * (1.0 + 0.3 * static_cast<double>(i))).backward();
  }
  return world.flat.gradients().clone();
}

TEST(BatchPass, gradients_are_the_definitions_for_any_micro_batch) {
  for (const std::int64_t last : {0, 2})
    for (const test::ToyShape shape :
         {test::ToyShape{}, test::ToyShape{.tied = false}, test::ToyShape{.kind = test::ToyKind::gpt2}}) {
      World world(last, Baseline::none, shape);
      const at::Tensor want = gradient_by_definition(world);
      ASSERT_GT(want.norm().item<double>(), 1.0);
      const at::Tensor whole = gradient_by(world, 100);
      EXPECT_LE(test::relative_difference(whole, want), 3e-6);
      for (const std::int64_t micro : {1, 2, 4, 5})
        EXPECT_LE(test::relative_difference(gradient_by(world, micro), whole), 1e-6) << micro;
    }
}

}  // namespace
}  // namespace vbon
