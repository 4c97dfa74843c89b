// The sampler against its definition (sampling_oracle.hpp): every architecture, number of slots and path, subsets of a
// chunk, weights kept between calls, the rows kept for a learner, what is refused.
#include "vbon/generate/engine.hpp"

#include <ATen/TensorOperators.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <set>

#include "unit/generate/sampling_oracle.hpp"
#include "unit/model/toy_lm.hpp"
#include "vbon/base/error.hpp"

namespace vbon {
namespace {

using test::ToyKind;

// Rounding of float32 logits moves the ends of a token's interval by about this; the seeds below stay clear of it.
constexpr double kClear = 2e-6;
constexpr double kLogpTolerance = 1e-5;

const std::vector<std::vector<std::int32_t>>& prompts() {
  static const std::vector<std::vector<std::int32_t>> all = {
      {3}, {5, 1, 7, 2, 11}, {4, 4, 9}, {8, 6, 12, 1, 2, 3, 10, 5, 7}, {2, 9, 1}};
  return all;
}
constexpr std::int32_t kSamples = 5;
constexpr std::int64_t kIds[] = {40, 7, 12, 3, 90};  // in no order

GenerateRequest chunk(std::vector<std::size_t> members = {0, 1, 2, 3, 4}, std::int32_t samples = kSamples) {
  GenerateRequest request{.num_samples = samples};
  for (const std::size_t i : members) request.prompts.push_back({kIds[i], prompts()[i]});
  return request;
}

GenerateOptions options(std::int64_t slots = 64, std::int64_t max_new_tokens = 9) {
  return {.sampling = {.temperature = 0.8, .max_new_tokens = max_new_tokens, .slots = slots},
          .eos_ids = {0, 6},
          .stream = RandomStream(17, Purpose::rollout, 5, 2)};
}

const CausalLm& llama() {
  static const CausalLm model = test::toy_lm({}, 21);
  return model;
}

void expect_same(const Completion& got, const Completion& want, const std::string& where) {
  EXPECT_EQ(got.tokens, want.tokens) << where;
  EXPECT_EQ(got.finished, want.finished) << where;
  EXPECT_EQ(got.sample, want.sample) << where;
  ASSERT_EQ(got.logp.size(), want.logp.size()) << where;
  for (std::size_t t = 0; t < got.logp.size(); ++t)
    EXPECT_NEAR(got.logp[t], want.logp[t], kLogpTolerance) << where << ", token " << t;
}

// ---- tokens and log-probabilities

class Architectures : public testing::TestWithParam<ToyKind> {};

TEST_P(Architectures, every_number_of_slots_and_path_draws_what_the_definition_says) {
  // GPT-2's tied head and NeoX's wide one are sharper at the same deviation.
  const CausalLm model = test::toy_lm({.kind = GetParam(), .deviation = GetParam() == ToyKind::llama ? 0.3 : 0.15}, 21);
  const GenerateRequest request = chunk();
  GenerateOptions common = options();
  if (GetParam() != ToyKind::llama) common.eos_ids = {9};  // so that some responses end and some are cut
  double margin = 1;
  std::vector<Completion> want;
  for (const PromptTokens& prompt : request.prompts)
    for (std::int32_t s = 0; s < kSamples; ++s)
      want.push_back(test::sampled_by_definition(model, prompt, s, common, margin));
  ASSERT_GT(margin, kClear) << "choose another seed: rounding may decide a draw";
  std::size_t finished = 0;
  for (const Completion& c : want) finished += c.finished ? 1 : 0;
  ASSERT_GT(finished, 3u);
  ASSERT_LT(finished, want.size() - 3);
  for (const bool portable : {false, true})
    for (const std::int64_t slots : {1, 2, 5, 8, 25, 64}) {
      GenerateOptions o = common;
      o.sampling.slots = slots;
      o.portable = portable;
      GenerateStatistics statistics;
      const std::vector<Completion> got = generate(model, request, o, &statistics);
      ASSERT_EQ(got.size(), want.size());
      std::int64_t tokens = 0, steps = 0, longest = 0;
      for (std::size_t i = 0; i < got.size(); ++i) {
        EXPECT_EQ(got[i].prompt, static_cast<std::int64_t>(i) / kSamples);
        expect_same(got[i], want[i], fmt::format("{} slots{}, sequence {}", slots, portable ? ", portable" : "", i));
        const auto length = static_cast<std::int64_t>(want[i].tokens.size());
        tokens += length;
        steps += length - 1;  // the first token comes from the prompt's own pass
        longest = std::max(longest, length - 1);
      }
      EXPECT_EQ(statistics.new_tokens, tokens);
      EXPECT_EQ(statistics.prompt_tokens, 1 + 5 + 3 + 9 + 3);
      // A free slot is never left empty while a sequence waits: one slot takes every step, enough slots the longest.
      if (slots == 1) {
        EXPECT_EQ(statistics.steps, steps);
      } else if (slots >= 25) {
        EXPECT_EQ(statistics.steps, longest);
      }
      EXPECT_GE(statistics.steps * slots, steps);
    }
}

INSTANTIATE_TEST_SUITE_P(Engine, Architectures, testing::Values(ToyKind::llama, ToyKind::gpt2, ToyKind::neox),
                         [](const auto& test_info) {
                           return std::string(test_info.param == ToyKind::llama  ? "llama"
                                              : test_info.param == ToyKind::gpt2 ? "gpt2"
                                                                                 : "neox");
                         });

TEST(Engine, end_tokens_and_the_limit_cut_one_endless_response) {
  GenerateOptions endless = options(64, 12);
  endless.eos_ids = {};
  const std::vector<Completion> whole = generate(llama(), chunk(), endless);
  for (const Completion& c : whole) {
    EXPECT_EQ(c.tokens.size(), 12u);
    EXPECT_FALSE(c.finished);
  }
  std::set<std::size_t> lengths;
  for (const std::int64_t limit : {1, 2, 7, 12}) {
    const std::vector<Completion> cut = generate(llama(), chunk(), options(64, limit));
    for (std::size_t i = 0; i < cut.size(); ++i) {
      const auto& t = whole[i].tokens;
      const auto end = std::find_if(t.begin(), t.begin() + limit, [](std::int32_t v) { return v == 0 || v == 6; });
      EXPECT_EQ(cut[i].finished, end != t.begin() + limit);
      const std::vector<std::int32_t> want(t.begin(), end == t.begin() + limit ? end : end + 1);  // with the end token
      EXPECT_EQ(cut[i].tokens, want) << "limit " << limit << ", sequence " << i;
      lengths.insert(want.size());
    }
  }
  EXPECT_GE(lengths.size(), 6u);  // ended at the first, some middle and the last position
}

TEST(Engine, a_token_depends_on_prompt_sample_and_position_alone) {
  const std::vector<Completion> whole = generate(llama(), chunk(), options());
  const auto of = [&](std::size_t prompt, std::int32_t sample) {
    return whole[prompt * kSamples + static_cast<std::size_t>(sample)];
  };
  GenerateRequest later = chunk();
  later.first_sample = 2;
  later.num_samples = 3;
  const std::vector<Completion> tail = generate(llama(), later, options(4));
  ASSERT_EQ(tail.size(), 15u);
  for (std::size_t i = 0; i < tail.size(); ++i)
    expect_same(tail[i], of(i / 3, 2 + static_cast<std::int32_t>(i % 3)), fmt::format("sample {}", i));

  const std::vector<std::size_t> members = {4, 1, 3};  // fewer, in another order, with other neighbours
  const std::vector<Completion> some = generate(llama(), chunk(members), options(7));
  for (std::size_t i = 0; i < some.size(); ++i)
    expect_same(some[i], of(members[i / kSamples], static_cast<std::int32_t>(i % kSamples)),
                fmt::format("chunk of three, {}", i));

  // More samples of a prompt leave the first ones alone.
  const std::vector<Completion> more = generate(llama(), chunk({2}, 40), options(16));
  for (std::int32_t s = 0; s < kSamples; ++s)
    expect_same(more[static_cast<std::size_t>(s)], of(2, s), fmt::format("of forty, {}", s));
}

TEST(Engine, streams_and_ids_key_the_draws) {
  const auto tokens = [](const GenerateRequest& request, const GenerateOptions& o) {
    std::vector<std::vector<std::int32_t>> all;
    for (const Completion& c : generate(llama(), request, o)) all.push_back(c.tokens);
    return all;
  };
  const auto base = tokens(chunk(), options());
  EXPECT_EQ(tokens(chunk(), options()), base);
  GenerateRequest other_ids = chunk();
  for (PromptTokens& p : other_ids.prompts) p.id += 1;
  EXPECT_NE(tokens(other_ids, options()), base);
  for (const RandomStream& stream :
       {RandomStream(18, Purpose::rollout, 5, 2), RandomStream(17, Purpose::pool, 5, 2),
        RandomStream(17, Purpose::rollout, 6, 2), RandomStream(17, Purpose::rollout, 5, 3)}) {
    GenerateOptions o = options();
    o.stream = stream;
    EXPECT_NE(tokens(chunk(), o), base);
  }
}

TEST(Engine, many_prompts_are_prefilled_in_several_passes) {
  // 300 prompts of 16 tokens are more rows than one pass takes.
  std::vector<std::vector<std::int32_t>> texts;
  const RandomStream stream(3, Purpose::subset);
  GenerateRequest request{.num_samples = 1};
  for (std::int64_t i = 0; i < 300; ++i) {
    texts.emplace_back();
    for (std::int32_t t = 0; t < 16 - i % 3; ++t)
      texts.back().push_back(static_cast<std::int32_t>(stream.below(13, i, t)));
  }
  for (std::int64_t i = 0; i < 300; ++i) request.prompts.push_back({i, texts[static_cast<std::size_t>(i)]});
  const std::vector<Completion> together = generate(llama(), request, options(64, 3));
  for (const std::int64_t i : {0, 1, 254, 255, 256, 257, 299}) {
    double margin = 1;
    const Completion want =
        test::sampled_by_definition(llama(), request.prompts[static_cast<std::size_t>(i)], 0, options(64, 3), margin);
    ASSERT_GT(margin, kClear);
    expect_same(together[static_cast<std::size_t>(i)], want, fmt::format("prompt {}", i));
  }
}

// ---- weights kept between calls

TEST(Engine, kept_weights_follow_the_model_as_it_trains) {
  CausalLm model = test::toy_lm({.tied = false}, 21);
  std::vector<at::Tensor*> trained = {&model.head, &model.final_norm.weight, &model.blocks[2].qkv.weight,
                                      &model.blocks[2].mlp_out.weight};
  for (at::Tensor* t : trained) t->set_requires_grad(true);
  SamplerWeights kept;
  GenerateOptions o = options(8);
  o.weights = &kept;
  std::vector<std::vector<std::int32_t>> before;
  for (int update = 0; update < 3; ++update) {
    if (update > 0)
      for (at::Tensor* t : trained) test::disturb(t->detach(), 0.2, static_cast<std::uint64_t>(update));
    const std::vector<Completion> got = generate(model, chunk(), o), fresh = generate(model, chunk(), options(8));
    std::vector<std::vector<std::int32_t>> tokens;
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i].tokens, fresh[i].tokens) << "update " << update << ", sequence " << i;
      EXPECT_EQ(got[i].logp, fresh[i].logp);
      tokens.push_back(got[i].tokens);
    }
    EXPECT_NE(tokens, before);
    before = tokens;
  }
  // Another number of slots with the same kept weights.
  const std::vector<Completion> got = [&] {
    GenerateOptions wider = options(16);
    wider.weights = &kept;
    return generate(model, chunk(), wider);
  }();
  const std::vector<Completion> fresh = generate(model, chunk(), options(16));
  for (std::size_t i = 0; i < got.size(); ++i) expect_same(got[i], fresh[i], fmt::format("16 slots, {}", i));
}

// ---- rows for a learner

TEST(Engine, kept_rows_are_those_that_enter_the_layer) {
  for (const std::int64_t layer : {0, 1, 3})
    for (const bool portable : {false, true}) {
      GenerateOptions o = options(8);
      o.keep_layer = layer;
      o.portable = portable;
      for (const Completion& c : generate(llama(), chunk(), o)) {
        const auto& prompt = prompts()[static_cast<std::size_t>(c.prompt)];
        // The last token was drawn and not run.
        const at::Tensor ids = test::whole_sequence(prompt, std::span(c.tokens).first(c.tokens.size() - 1)).view({-1});
        const at::Tensor positions = row_positions(1, ids.size(0), at::kCPU);
        const at::Tensor want = run_blocks(llama(), embed(llama(), ids, positions), positions, 0, layer,
                                           full_attention(llama().spec, 1, ids.size(0)));
        ASSERT_EQ(c.trunk.sizes(), want.sizes());
        EXPECT_LE((c.trunk - want).abs().max().item<double>(), 4e-6 * want.abs().max().item<double>())
            << "layer " << layer << ", prompt " << c.prompt << ", sample " << c.sample;
      }
    }
}

// ---- distributions

// Upper quantile of a chi-square distribution at 1 - 1e-4, by Wilson and Hilferty.
double chi_square_limit(double dof) { return dof * std::pow(1 - 2 / (9 * dof) + 3.719 * std::sqrt(2 / (9 * dof)), 3); }

TEST(Engine, pairs_of_tokens_have_the_frequencies_of_the_softmax) {
  const CausalLm model = test::toy_lm({.vocab = 5, .layers = 2}, 4);
  const std::vector<std::int32_t> prompt = {3, 1};
  constexpr std::int32_t kDraws = 20000;
  GenerateOptions o = options(128, 2);
  o.eos_ids = {4};
  std::map<std::vector<std::int32_t>, double> counts, expected;
  for (const Completion& c : generate(model, {.prompts = {{1, prompt}}, .num_samples = kDraws}, o))
    counts[c.tokens] += 1;
  const auto first = test::softmax(test::next_logits(model, test::whole_sequence(prompt, {})), 0.8);
  for (std::int32_t a = 0; a < 4; ++a) {
    const std::vector<std::int32_t> so_far = {a};
    const auto second = test::softmax(test::next_logits(model, test::whole_sequence(prompt, so_far)), 0.8);
    for (std::int32_t b = 0; b < 5; ++b)
      expected[{a, b}] = kDraws * first[static_cast<std::size_t>(a)] * second[static_cast<std::size_t>(b)];
  }
  expected[{4}] = kDraws * first[4];
  double statistic = 0, rare_counts = 0, rare_expected = 0, cells = 0;
  for (const auto& [tokens, n] : expected) {
    if (n < 10) {
      rare_counts += counts[tokens];
      rare_expected += n;
      continue;
    }
    statistic += (counts[tokens] - n) * (counts[tokens] - n) / n;
    ++cells;
  }
  if (rare_expected > 0) statistic += (rare_counts - rare_expected) * (rare_counts - rare_expected) / rare_expected;
  EXPECT_EQ(counts.size(), 21u);  // nothing but these strings
  ASSERT_GE(cells, 12);
  EXPECT_LT(statistic, chi_square_limit(cells));
}

struct Truncation {
  std::int64_t top_k;
  double top_p;
};

class Truncated : public testing::TestWithParam<Truncation> {};

TEST_P(Truncated, draws_allowed_tokens_alone_with_renormalised_log_probabilities) {
  constexpr std::int32_t kDraws = 3000;
  GenerateOptions o = options(64, 2);
  o.sampling.top_k = GetParam().top_k;
  o.sampling.top_p = GetParam().top_p;
  o.eos_ids = {};
  const auto allowed = [&](std::span<const std::int32_t> response) {
    const auto z = test::next_logits(llama(), test::whole_sequence(prompts()[1], response));
    return test::truncated(test::softmax(z, 0.8), GetParam().top_k, GetParam().top_p);
  };
  const std::vector<double> first = allowed({});
  std::map<std::int32_t, std::vector<double>> second;
  std::vector<double> counts(first.size());
  for (const Completion& c : generate(llama(), chunk({1}, kDraws), o)) {
    const std::int32_t a = c.tokens[0], b = c.tokens[1];
    ASSERT_GT(first[static_cast<std::size_t>(a)], 0) << a;
    EXPECT_NEAR(c.logp[0], std::log(first[static_cast<std::size_t>(a)]), kLogpTolerance);
    counts[static_cast<std::size_t>(a)] += 1;
    if (!second.contains(a)) second[a] = allowed(std::span(c.tokens).first(1));
    ASSERT_GT(second[a][static_cast<std::size_t>(b)], 0) << a << ", " << b;
    EXPECT_NEAR(c.logp[1], std::log(second[a][static_cast<std::size_t>(b)]), kLogpTolerance);
  }
  for (std::size_t v = 0; v < first.size(); ++v)
    EXPECT_NEAR(counts[v], kDraws * first[v], 5 * std::sqrt(kDraws * first[v] * (1 - first[v])) + 1e-9)
        << "token " << v;
}

INSTANTIATE_TEST_SUITE_P(Engine, Truncated,
                         testing::Values(Truncation{1, 1.0}, Truncation{3, 1.0}, Truncation{100, 1.0},
                                         Truncation{0, 0.6}, Truncation{0, 0.01}, Truncation{4, 0.7}));

// ---- what is refused

TEST(Engine, refuses_prompts_that_cannot_be_continued) {
  const std::vector<std::int32_t> none, fits(test::kToyPositions - 9, 1), long_one(test::kToyPositions - 8, 1),
      outside = {1, 13}, negative = {-1};
  const auto message = [](GenerateRequest request, const CausalLm& model = llama()) -> std::string {
    try {
      generate(model, request, options());
    } catch (const UserError& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_THAT(message({.prompts = {{8, none}}}), testing::HasSubstr("prompt 8 has no tokens"));
  EXPECT_THAT(message({.prompts = {{4, fits}, {9, long_one}}}), testing::HasSubstr("prompt 9 has 40 tokens"));
  EXPECT_EQ(message({.prompts = {{4, fits}}}), "");
  EXPECT_THAT(message({.prompts = {{5, outside}}}), testing::HasSubstr("token 13"));
  EXPECT_THAT(message({.prompts = {{5, negative}}}), testing::HasSubstr("token -1"));
  EXPECT_THAT(message({}), testing::HasSubstr("no prompts"));
  EXPECT_THAT(message({.prompts = {{4, fits}}, .num_samples = 0}), testing::HasSubstr("nothing to sample"));
  CausalLm broken = test::toy_lm({}, 21);
  broken.final_norm.weight.fill_(std::numeric_limits<float>::quiet_NaN());
  EXPECT_THAT(message({.prompts = {{4, fits}}}, broken), testing::HasSubstr("not finite"));
}

}  // namespace
}  // namespace vbon
