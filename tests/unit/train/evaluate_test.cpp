// An evaluation's every figure against brute force: responses drawn again in one chunk, KL by whole forwards, win rates
// by comparing with each pool sample, Best-of-N by listing all subsets of the pool, intervals by the definition of the
// bootstrap. On one rank and on two, all with every role.
#include "vbon/train/evaluate.hpp"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "unit/train/shared_folder.hpp"
#include "unit/train/toy_world.hpp"
#include "vbon/objective/bon.hpp"
#include "vbon/text/tokenizer.hpp"

namespace vbon {
namespace {

using test::at_index;
using Values = std::vector<double>;

constexpr std::size_t kM = 6, kP = 3;
constexpr std::uint64_t kPromptKey = 77;

// Whole numbers 0 to 6, so that most tie; of the response alone.
double plain_reward(std::string_view response) {
  double sum = 0;
  for (const char c : response) sum += static_cast<unsigned char>(c) % 5;
  return std::fmod(sum, 7.0);
}
double plain_judgement(std::string_view response) { return 0.25 * static_cast<double>(response.size() % 9); }

RawScorer scorer_of(double (*score)(std::string_view)) {
  return [score](std::span<const PromptResponse> pairs) {
    Values values;
    for (const PromptResponse& pair : pairs) values.push_back(score(pair.response));
    return values;
  };
}

double mean(const Values& v) { return std::accumulate(v.begin(), v.end(), 0.0) / static_cast<double>(v.size()); }

class Evaluating : public test::SharedFolder {
 protected:
  void SetUp() override {
    SharedFolder::SetUp();
    prompts_.rows = test::toy_prompts();
    prompts_.key = kPromptKey;
    settings_.run.seed = 1;
    settings_.eval = {.samples = 4, .seed = 9, .bon_n = {1, 2, 3, 6, 100}, .bootstrap = 300};
    settings_.sampling = {.temperature = 0.8, .max_new_tokens = test::kToyTokens, .slots = 4};
    settings_.train.micro_batch = 3;
    settings_.cluster = {.roles = comm::Roles::parse("all"), .threads = 1, .device = comm::DeviceKind::cpu};
    for (std::int64_t id = 0; id < 250; ++id) header_.eos_ids.push_back(id);
    header_.method = "vbon";
    header_.n = 3;
  }

  // A pool of the given rewards, whose prompts are in another order than those to evaluate.
  UsedPool pool_of(std::vector<float> rewards, std::vector<float> judgements) const {
    UsedPool used;
    const auto m = static_cast<std::int64_t>(rewards.size() / kP);
    used.pool.header.num_samples = used.pool.block.samples.num_samples = m;
    for (std::size_t i = 0; i < rewards.size(); ++i) {
      used.pool.block.samples.length.push_back(static_cast<std::int32_t>(1 + i % 5));
      used.pool.block.samples.finished.push_back(i % 3 == 0 ? 0 : 1);
    }
    used.pool.block.rewards = {{"main", std::move(rewards)}};
    if (!judgements.empty()) used.pool.block.rewards["evaluator"] = std::move(judgements);
    used.pool.sorted_rewards = sorted_rows(used.pool.block.rewards, m);
    used.table = std::make_unique<LogFTable>(used.pool.sorted_rewards.at("main"), kP, Estimator::add_one);
    used.row = {2, 0, 1};
    return used;
  }
  Evaluation run(const UsedPool& pool, const Policy& policy, bool judged = true) {
    RewardModel reward("main", 1e-5, scorer_of(plain_reward)), evaluator("evaluator", 1e-5, scorer_of(plain_judgement));
    const RolloutFiles chunks(folder_);
    RankContext context = make_rank_context(test::world(), settings_.cluster, 0);
    return evaluate(context, settings_,
                    {.prompts = prompts_,
                     .pool = pool,
                     .collection = {.policy = &policy.model,
                                    .tokenizer = &tokenizer_,
                                    .reward = &reward,
                                    .evaluator = judged ? &evaluator : nullptr},
                     .reference = &reference_,
                     .policy = &policy,
                     .header = header_,
                     .chunks = &chunks});
  }
  std::vector<Completion> drawn(const CausalLm& model, RandomStream stream, std::int32_t samples) const {
    GenerateRequest request{.num_samples = samples};
    for (std::int64_t p = 0; p < static_cast<std::int64_t>(kP); ++p)
      request.prompts.push_back({prompts_.rows.id[at_index(p)], prompts_.rows.tokens_of(p)});
    GenerateOptions options{.sampling = settings_.sampling, .stream = stream};
    for (const std::int64_t id : header_.eos_ids) options.eos_ids.push_back(static_cast<std::int32_t>(id));
    return generate(model, request, options);
  }

  Tokenizer tokenizer_ = Tokenizer::load(fs::path(VBON_TEST_DATA) / "golden/text/smollm2");
  CausalLm reference_ = test::toy_lm({.vocab = tokenizer_.vocab_size(), .layers = 2, .deviation = 0.25}, 31);
  Prompts prompts_;
  Settings settings_;
  EvalHeader header_;
};

// ---- figures by brute force

MeanError figure(const Values& v) {
  const double m = mean(v);
  double squares = 0;
  for (const double x : v) squares += (x - m) * (x - m);
  const double n = static_cast<double>(v.size());
  return {.mean = m, .se = std::sqrt(squares / (n - 1) / n)};
}

Interval interval(const Values& v) {
  const RandomStream stream(9, Purpose::bootstrap);
  Values means;
  for (int b = 0; b < 300; ++b) {
    double sum = 0;
    for (std::size_t i = 0; i < v.size(); ++i)
      sum += v[at_index(
          static_cast<std::int64_t>(stream.uniform(static_cast<std::int64_t>(i), b) * static_cast<double>(v.size())))];
    means.push_back(sum / static_cast<double>(v.size()));
  }
  std::sort(means.begin(), means.end());
  const auto quantile = [&](double q) {  // numpy.quantile's default
    const double place = q * 299;
    const auto k = static_cast<std::size_t>(place);
    return means[k] + (place - std::floor(place)) * (means[std::min<std::size_t>(k + 1, 299)] - means[k]);
  };
  return {quantile(0.025), quantile(0.975)};
}

struct BestOf {
  double kl = 0, win = 0, reward = 0, judgement = 0, judged_win = 0;
};

// The best of n of the pool's samples: over all subsets, the tied best equally likely, against those left out.
BestOf best_of_subsets(std::span<const float> rewards, std::span<const float> judgements, int n) {
  BestOf out;
  double subsets = 0;
  for (unsigned subset = 0; subset < 1u << kM; ++subset) {
    if (std::popcount(subset) != n) continue;
    ++subsets;
    float best = -1e30f;
    for (std::size_t i = 0; i < kM; ++i)
      if (subset >> i & 1u) best = std::max(best, rewards[i]);
    double tied = 0, judged = 0, win = 0;
    for (std::size_t i = 0; i < kM; ++i) {
      if ((subset >> i & 1u) == 0) {
        win += (rewards[i] < best    ? 1.0
                : rewards[i] == best ? 0.5
                                     : 0.0) /
               static_cast<double>(kM - static_cast<std::size_t>(n));
      } else if (rewards[i] == best) {
        ++tied;
        judged += judgements[i];
      }
    }
    out.reward += best;
    out.win += win;
    out.judgement += judged / tied;
    for (std::size_t i = 0; i < kM; ++i)
      for (std::size_t j = 0; j < kM; ++j)
        if ((subset >> i & 1u) != 0 && rewards[i] == best && (subset >> j & 1u) == 0)
          out.judged_win += (judgements[i] > judgements[j]    ? 1.0
                             : judgements[i] == judgements[j] ? 0.5
                                                              : 0.0) /
                            (tied * static_cast<double>(kM - static_cast<std::size_t>(n)));
  }
  out.reward /= subsets;
  out.win /= subsets;
  out.judgement /= subsets;
  out.judged_win /= subsets;
  // KL of the pool's own distribution: a sample of reward r has F_strict and F as shares below and not above.
  for (std::size_t i = 0; i < kM; ++i) {
    double below = 0, not_above = 0;
    for (std::size_t j = 0; j < kM; ++j) {
      below += rewards[j] < rewards[i] ? 1.0 / kM : 0;
      not_above += rewards[j] <= rewards[i] ? 1.0 / kM : 0;
    }
    const double w = (std::pow(not_above, n) - std::pow(below, n)) / (not_above - below);
    out.kl += w > 0 ? w * std::log(w) / kM : 0;
  }
  return out;
}

// n = M: drawn with replacement (for the win, an opponent first, then n of the others).
BestOf best_of_all(std::span<const float> rewards, std::span<const float> judgements) {
  BestOf out = best_of_subsets(rewards, judgements, kM);
  out.win = out.judged_win = 0;
  for (std::size_t opponent = 0; opponent < kM; ++opponent) {
    double below = 0, not_above = 0;
    for (std::size_t j = 0; j < kM; ++j) {
      if (j == opponent) continue;
      below += rewards[j] < rewards[opponent] ? 1.0 / (kM - 1) : 0;
      not_above += rewards[j] <= rewards[opponent] ? 1.0 / (kM - 1) : 0;
    }
    out.win += (1 - 0.5 * (std::pow(below, kM) + std::pow(not_above, kM))) / kM;
    for (std::size_t i = 0; i < kM; ++i) {
      if (i == opponent) continue;
      double lower = 0, not_higher = 0, tied = 0;
      for (std::size_t j = 0; j < kM; ++j) {
        if (j == opponent) continue;
        lower += rewards[j] < rewards[i] ? 1.0 / (kM - 1) : 0;
        not_higher += rewards[j] <= rewards[i] ? 1.0 / (kM - 1) : 0;
        tied += rewards[j] == rewards[i] ? 1 : 0;
      }
      const double u = judgements[i] > judgements[opponent] ? 1.0 : judgements[i] == judgements[opponent] ? 0.5 : 0.0;
      out.judged_win += (std::pow(not_higher, kM) - std::pow(lower, kM)) / tied * u / kM;
    }
  }
  return out;
}

void expect_figure(const MeanError& got, const Values& per_prompt, const std::string& what) {
  const MeanError want = figure(per_prompt);
  EXPECT_NEAR(got.mean, want.mean, 1e-6 * std::max(1.0, std::abs(want.mean))) << what;
  EXPECT_NEAR(got.se, want.se, 1e-6 * std::max(1.0, want.se)) << what;
}
void expect_interval(const Interval& got, const Values& per_prompt, const std::string& what) {
  const Interval want = interval(per_prompt);
  EXPECT_NEAR(got.low, want.low, 1e-5 * std::max(1.0, std::abs(want.low))) << what;
  EXPECT_NEAR(got.high, want.high, 1e-5 * std::max(1.0, std::abs(want.high))) << what;
}

const std::vector<float> kPoolRewards = {3, 3, 0, 6, 1, 2, 5, 5, 5, 2, 6, 0, 4, 1, 1, 1, 3, 2};
const std::vector<float> kPoolJudgements = {.25f, .5f, 1, 0,    .75f, .25f, 2, 1,    0,
                                            .5f,  .5f, 1, .25f, 0,    1.5f, 1, .75f, 2};

TEST_F(Evaluating, every_figure_of_the_table_by_brute_force) {
  Policy policy = make_policy(reference_, {1});
  const auto trained = trained_parameters(policy);
  FlatParameters flat(trained);
  tie_again(policy.model);
  test::disturb_all(trained, 0.05, 50);
  const UsedPool pool = pool_of(kPoolRewards, kPoolJudgements);
  const Evaluation got = run(pool, policy);
  ASSERT_EQ(got.rows.size(), 2u + 3u + 1u);  // of bon_n, 1 is the reference and 100 more than the pool has

  // Responses: those of one chunk with the keys of an evaluation.
  const std::vector<Completion> responses = drawn(policy.model, RandomStream(9, Purpose::evaluation, kPromptKey), 4);
  const SampleRows& samples = got.file.block.samples;
  ASSERT_EQ(samples.length.size(), 12u);
  Values kl, win, reward, judgement, judged_win, length, finished;
  const auto add = [](Values& per_prompt, std::size_t i, double value) {
    if (i % 4 == 0) per_prompt.push_back(0);
    per_prompt.back() += value / 4;
  };
  for (std::size_t i = 0; i < 12; ++i) {
    const Completion& c = responses[i];
    const auto tokens = samples.tokens_of(static_cast<std::int64_t>(i / 4), static_cast<std::int64_t>(i % 4));
    ASSERT_EQ(std::vector(tokens.begin(), tokens.end()), c.tokens) << i;
    ASSERT_EQ(samples.finished[i] != 0, c.finished);
    const auto by_definition =
        test::tokens_by_definition(policy.model, reference_, {prompts_.rows.tokens_of(c.prompt), c.tokens}, 0.8);
    const double sum_kl = by_definition.kl.sum().item<double>();
    EXPECT_NEAR(got.file.kl[i], sum_kl, 2e-5 * std::max(1.0, sum_kl));
    EXPECT_NEAR(samples.logp_reference[i], by_definition.logp_ref.sum().item<double>(), 1e-4);
    const std::string text = tokenizer_.decode(c.tokens);
    EXPECT_EQ(got.file.block.rewards.at("main")[i], plain_reward(text));
    EXPECT_EQ(got.file.block.rewards.at("evaluator")[i], static_cast<float>(plain_judgement(text)));
    double beaten = 0, judged_beaten = 0;
    for (std::size_t m = 0; m < kM; ++m) {
      const double other = kPoolRewards[at_index(pool.row[i / 4]) * kM + m];
      beaten += (plain_reward(text) > other ? 1.0 : plain_reward(text) == other ? 0.5 : 0.0) / kM;
      const auto own = static_cast<float>(plain_judgement(text));
      const float judged = kPoolJudgements[at_index(pool.row[i / 4]) * kM + m];
      judged_beaten += (own > judged ? 1.0 : own == judged ? 0.5 : 0.0) / kM;
    }
    add(kl, i, got.file.kl[i]);
    add(win, i, beaten);
    add(reward, i, plain_reward(text));
    add(judgement, i, plain_judgement(text));
    add(judged_win, i, judged_beaten);
    add(length, i, static_cast<double>(c.tokens.size()));
    add(finished, i, c.finished ? 1 : 0);
  }
  EXPECT_GT(mean(kl), 0.05);
  for (std::size_t p = 0; p < kP; ++p) EXPECT_NEAR(got.file.win[p], win[p], 1e-12);

  const EvalRow& of_policy = got.rows[1];
  EXPECT_EQ(of_policy.name, "policy");
  expect_figure(of_policy.kl, kl, "kl");
  expect_figure(of_policy.win, win, "win");
  expect_figure(of_policy.reward, reward, "reward");
  expect_figure(of_policy.evaluator, judgement, "evaluator");
  expect_figure(of_policy.evaluator_win, judged_win, "win by the evaluator");
  expect_figure(of_policy.length, length, "length");
  expect_figure(of_policy.finished, finished, "finished");
  expect_interval(of_policy.kl_interval, kl, "kl");
  expect_interval(of_policy.win_interval, win, "win");
  expect_interval(of_policy.reward_interval, reward, "reward");
  expect_interval(of_policy.evaluator_interval, judgement, "evaluator");

  // The reference is its pool.
  const EvalRow& of_reference = got.rows[0];
  EXPECT_EQ(of_reference.kl.mean, 0);
  EXPECT_EQ(of_reference.win.mean, 0.5);
  Values pool_reward, pool_judgement, pool_length, pool_finished;
  for (std::size_t p = 0; p < kP; ++p) {
    for (Values* v : {&pool_reward, &pool_judgement, &pool_length, &pool_finished}) v->push_back(0);
    for (std::size_t k = at_index(pool.row[p]) * kM; k < (at_index(pool.row[p]) + 1) * kM; ++k) {
      pool_reward.back() += kPoolRewards[k] / kM;
      pool_judgement.back() += kPoolJudgements[k] / kM;
      pool_length.back() += static_cast<double>(1 + k % 5) / kM;
      pool_finished.back() += (k % 3 == 0 ? 0.0 : 1.0) / kM;
    }
  }
  expect_figure(of_reference.reward, pool_reward, "reference");
  expect_figure(of_reference.evaluator, pool_judgement, "reference's evaluator");
  expect_figure(of_reference.length, pool_length, "reference's length");
  expect_figure(of_reference.finished, pool_finished, "reference's finished");
  expect_interval(of_reference.reward_interval, pool_reward, "reference");

  // Best-of-N from the pool.
  std::size_t row = 2;
  for (const int n : {2, 3, 6}) {
    const EvalRow& bon = got.rows[row++];
    EXPECT_EQ(bon.name, "bon");
    EXPECT_EQ(bon.n, n);
    Values of_kl, of_win, of_reward, of_judgement, of_judged_win;
    for (std::size_t p = 0; p < kP; ++p) {
      const auto rewards = std::span(kPoolRewards).subspan(at_index(pool.row[p]) * kM, kM);
      const auto judgements = std::span(kPoolJudgements).subspan(at_index(pool.row[p]) * kM, kM);
      const BestOf best =
          n == static_cast<int>(kM) ? best_of_all(rewards, judgements) : best_of_subsets(rewards, judgements, n);
      of_kl.push_back(best.kl);
      of_win.push_back(best.win);
      of_reward.push_back(best.reward);
      of_judgement.push_back(best.judgement);
      of_judged_win.push_back(best.judged_win);
    }
    const std::string what = fmt::format("best of {}", n);
    expect_figure(bon.kl, of_kl, what + ": kl");
    expect_figure(bon.win, of_win, what + ": win");
    expect_figure(bon.reward, of_reward, what + ": reward");
    expect_figure(bon.evaluator, of_judgement, what + ": evaluator");
    expect_figure(bon.evaluator_win, of_judged_win, what + ": win by the evaluator");
    expect_interval(bon.win_interval, of_win, what);
    EXPECT_EQ(got.file.bon.n[row - 3], n);
    EXPECT_EQ(got.file.bon.win[row - 3], bon.win.mean);
    EXPECT_EQ(got.file.bon.kl[row - 3], bon.kl.mean);
    EXPECT_EQ(got.file.bon.reward[row - 3], bon.reward.mean);
    EXPECT_EQ(got.file.bon.se[row - 3], bon.win.se);
  }
  EXPECT_EQ(got.rows[5].name, "bon_analytic");
  EXPECT_NEAR(got.rows[5].kl.mean, std::log(3.0) - 2.0 / 3, 1e-12);
  EXPECT_NEAR(got.rows[5].win.mean, 0.75, 1e-12);
  EXPECT_NEAR(got.efficiency, (mean(win) - 0.5) / (bon_win_at_kl(mean(kl)) - 0.5), 1e-6);

  // What people and scripts read is the same table.
  const nlohmann::json summary = nlohmann::json::parse(summary_json(got));
  EXPECT_EQ(summary.at("rows").size(), 6u);
  EXPECT_EQ(summary.at("evaluation_seed"), 9);
  EXPECT_EQ(summary.at("rows")[1].at("win"), of_policy.win.mean);
  EXPECT_EQ(summary.at("rows")[1].at("kl_high"), of_policy.kl_interval.high);
  EXPECT_TRUE(summary.at("rows")[5].at("reward").is_null());
  EXPECT_EQ(got.file.summary.at("policy.reward_se"), of_policy.reward.se);
  EXPECT_EQ(got.file.summary.at("bon_3.win"), got.rows[3].win.mean);
  EXPECT_EQ(got.file.summary.at("bon_3.evaluator_win"), got.rows[3].evaluator_win.mean);
  EXPECT_EQ(summary.at("rows")[1].at("evaluator_win"), of_policy.evaluator_win.mean);
  for (const auto& line : table_rows(got)) EXPECT_EQ(line.size(), table_header(got).size());
  EXPECT_THAT(table_rows(got)[3], testing::Contains(testing::HasSubstr("N=3, from the pool")));
  EXPECT_EQ(table_rows(got)[5][3], "");  // not measured
}

TEST_F(Evaluating, the_reference_wins_half_against_its_own_pool) {
  settings_.eval = {.samples = 48, .seed = 4, .bon_n = {}, .bootstrap = 50};
  std::vector<float> rewards;
  for (const std::int64_t prompt : {1, 2, 0})  // the pool's order: row of prompt p is {2, 0, 1}[p]
    for (const Completion& c : drawn(reference_, RandomStream(4, Purpose::pool, kPromptKey), 64))
      if (c.prompt == prompt) rewards.push_back(static_cast<float>(plain_reward(tokenizer_.decode(c.tokens))));
  const Policy same = make_policy(reference_, {1});
  const Evaluation got = run(pool_of(rewards, {}), same, /*judged=*/false);
  ASSERT_EQ(got.rows.size(), 3u);
  EXPECT_LT(std::abs(got.rows[1].kl.mean), 1e-5);
  EXPECT_NEAR(got.rows[1].win.mean, 0.5, 4 * 0.29 * std::sqrt(1.0 / 144 + 1.0 / 192));
  EXPECT_TRUE(std::isnan(got.rows[1].evaluator.mean));
  EXPECT_TRUE(std::isnan(got.efficiency));
  EXPECT_FALSE(got.file.block.rewards.contains("evaluator"));
}

}  // namespace
}  // namespace vbon
