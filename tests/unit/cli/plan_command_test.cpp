// `vbon plan` as its users see it: from a configuration on disk to text, JSON and errors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <nlohmann/json.hpp>

#include "cli/plan_ranges.hpp"
#include "cli/plan_text.hpp"
#include "unit/cli/model_folder.hpp"
#include "unit/cli/scratch.hpp"
#include "vbon/cli/commands.hpp"

namespace vbon::cli {
namespace {

using testing::HasSubstr;

class PlanCommand : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(scratch_ / "reference");
    scratch_.write("reference/config.json", test::tiny_config());
    scratch_.write("prompts.txt", "One film\nAnother long film\nA third\nAnd a fourth film of many words\n");
    line_.config =
        scratch_.write("config.yaml", "run: {dir: " + (scratch_ / "run").string() + ", seed: 1}\n" +
                                          "model: {reference: " + (scratch_ / "reference").string() + "}\n" +
                                          "prompts: {train: " + (scratch_ / "prompts.txt").string() + "}\n" + R"(
reward: {kind: exec, command: ["true"], id: v1}
sampling: {max_new_tokens: 8, slots: 4}
pool: {path: pool.h5, samples: 8}
train: {layers: last 1, steps: 5, prompts_per_step: 4, samples_per_prompt: 4, chunk_prompts: 1}
vbon: {N: 4}
ppo: {baseline: rloo, kl_form: exact, epochs: 2}
cluster: {device: cpu}
)");
    line_.ranks = 3;
  }

  std::string output() {
    testing::internal::CaptureStdout();
    EXPECT_EQ(run_plan_command(line_), ExitCode::ok);
    return testing::internal::GetCapturedStdout();
  }
  // Seconds that a plan takes at its fastest of a few tries: other programs may be at work on the machine.
  double seconds() {
    double fastest = std::numeric_limits<double>::infinity();
    for (int attempt = 0; attempt < 3 && fastest >= 1.0; ++attempt) {
      const auto start = std::chrono::steady_clock::now();
      output();
      fastest = std::min(fastest, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return fastest;
  }
  std::string refusal() {
    try {
      run_plan_command(line_);
      return "";
    } catch (const UserError& e) {
      return e.what();
    }
  }

  test::Scratch scratch_;
  CommandLine line_;
};

TEST_F(PlanCommand, NeedsOnlyTheModelsConfig) {
  const std::string text = output();
  for (const char* part :
       {"3 ranks on 1 node", "rollout", "scorer", "learner", "AdamW moments", "KV cache of sampling.slots",
        "rollouts of a step", "a step: generate", "has no tokenizer.json"})
    EXPECT_THAT(text, HasSubstr(part));
}

TEST_F(PlanCommand, JsonHoldsThePlan) {
  line_.json = true;
  const nlohmann::json plan = nlohmann::json::parse(output());
  EXPECT_EQ(plan.at("placement").at("ranks"), 3);
  EXPECT_EQ(plan.at("placement").at("each").size(), 3u);
  EXPECT_EQ(plan.at("batch").at("sequences"), 16);
  EXPECT_EQ(plan.at("batch").at("chunks"), 4);
  EXPECT_EQ(plan.at("batch").at("run").at("episodes"), 80);
  // Blocks of 2 x 16 + 16 x (16 + 2 x 8) + 16 x 16 + 16 x 64 + 32 x 16 numbers.
  EXPECT_EQ(plan.at("memory").at("parameters"), 2 * 2336 + 16 + 1104 * 16);
  EXPECT_EQ(plan.at("memory").at("trained"), 2336 + 16);
  EXPECT_GT(plan.at("time").at("run_seconds").get<double>(), 0.0);
  EXPECT_GT(plan.at("time").at("rates").at("learn_flops").get<double>(), 1e6);
  EXPECT_TRUE(plan.at("warnings").is_array());
}

TEST_F(PlanCommand, ThousandRanksTakeLessThanASecond) {
  line_.ranks = 1024;
  line_.overrides = {"cluster.ranks_per_node=8", "cluster.device=cuda", "cluster.devices_per_node=8"};
  line_.json = true;
  EXPECT_LT(seconds(), 1.0);
  const nlohmann::json plan = nlohmann::json::parse(output());
  EXPECT_EQ(plan.at("placement").at("each").size(), 1024u);
  EXPECT_EQ(plan.at("placement").at("each").back().at("node"), 127);
  EXPECT_TRUE(plan.at("time").at("run_seconds").is_null());  // no such device here to measure
}

TEST_F(PlanCommand, ThousandRanksOnCpusTakeLessThanASecondWithWhatIsMeasured) {
  line_.ranks = 1024;
  line_.overrides = {"cluster.ranks_per_node=8", "cluster.device=cpu", "cluster.threads=1"};
  line_.json = true;
  EXPECT_LT(seconds(), 1.0);
  const nlohmann::json plan = nlohmann::json::parse(output());
  EXPECT_EQ(plan.at("placement").at("each").size(), 1024u);
  EXPECT_GT(plan.at("time").at("run_seconds").get<double>(), 0.0);
  EXPECT_GT(plan.at("time").at("rates").at("learn_flops").get<double>(), 1e6);
}

constexpr const char* kModel = R"({"format": "vbon.scaling", "schema_version": 1, "ranks": [1, 2, 4],
  "terms": {"fixed": 0.5, "compute": 0.04, "update": 0.02, "latency": 0.1, "bytes": 1e-6},
  "gradient_bytes": 9408, "relative_error": 0.03,
  "measured_with": {"train.method": "vbon", "sampling.max_new_tokens": 8, "cluster.threads": 0, "x": null}})";

TEST_F(PlanCommand, PredictsByAModelOfWhatWasMeasured) {
  line_.step_model = scratch_.write("scaling.json", kModel);
  line_.overrides = {"cluster.roles=all"};
  line_.ranks = 4;
  line_.json = true;
  const nlohmann::json plan = nlohmann::json::parse(output()), model = plan.at("time").at("model");
  // 16 sequences and 2 updates a step; of 2352 trained numbers a rank sends 2 x 3/4 an update.
  const double sent = 2 * 2 * 4 * 2352 * 0.75;
  EXPECT_DOUBLE_EQ(model.at("sent_bytes"), sent);
  EXPECT_DOUBLE_EQ(model.at("step_seconds"), 0.5 + 0.04 * 16 / 4 + 0.02 * 2 + 0.1 * 2 + 1e-6 * sent);
  EXPECT_DOUBLE_EQ(model.at("run_seconds"), 5 * model.at("step_seconds").get<double>());
  EXPECT_DOUBLE_EQ(model.at("parts").at("latency"), 0.2);
  EXPECT_FALSE(model.at("beyond"));
  for (const nlohmann::json& note : plan.at("notes"))
    EXPECT_THAT(note.get<std::string>(), testing::Not(HasSubstr("the model of a step")));
  line_.json = false;
  EXPECT_THAT(output(), testing::AllOf(HasSubstr("a step, by the model"), HasSubstr("measured on up to 4 ranks"),
                                       testing::Not(HasSubstr("beyond"))));
}

TEST_F(PlanCommand, SaysWhereAModelSaysLittle) {
  line_.step_model = scratch_.write("scaling.json", kModel);
  line_.overrides = {"cluster.roles=all",     "sampling.max_new_tokens=7", "train.layers=all",
                     "train.chunk_prompts=1", "train.prompts_per_step=4",  "train.samples_per_prompt=8"};
  line_.ranks = 4;
  EXPECT_THAT(output(), testing::AllOf(HasSubstr("measured with sampling.max_new_tokens 8, and here it is 7"),
                                       HasSubstr("that of another language model")));
  line_.overrides = {"cluster.roles={rollout: 2, scorer: 1, learner: 1}"};
  EXPECT_THAT(output(), testing::AllOf(HasSubstr("says nothing of ranks with different roles"),
                                       testing::Not(HasSubstr("a step, by the model"))));
  line_.overrides = {"cluster.roles=all"};
  line_.ranks = 2;
  line_.step_model = scratch_.write("one.json", R"({"format": "vbon.scaling", "schema_version": 1, "ranks": [1],
    "terms": {"fixed": 1, "compute": 0, "update": 0, "latency": 0, "bytes": 0}, "gradient_bytes": 9408,
    "relative_error": 0})");
  EXPECT_THAT(output(), HasSubstr("beyond what was measured"));
}

TEST_F(PlanCommand, RefusesWhatIsNoModel) {
  const std::string good = kModel;
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    line_.step_model = scratch_.write("bad.json", text);
    return refusal();
  };
  line_.overrides = {"cluster.roles=all"};
  EXPECT_THAT(with("vbon.scaling", "vbon.pool"), HasSubstr("is no model of a step's time"));
  EXPECT_THAT(with("\"schema_version\": 1", "\"schema_version\": 2"), HasSubstr("newer"));
  EXPECT_THAT(with("0.04", "-0.04"), HasSubstr("'compute' is -0.04"));
  EXPECT_THAT(with("\"latency\"", "\"latancy\""), HasSubstr("'latency' is missing"));
  EXPECT_THAT(with("[1, 2, 4]", "[]"), HasSubstr("'ranks' is missing"));
  EXPECT_THAT(with("[1, 2, 4]", "[0]"), HasSubstr("'ranks' holds what is none"));
  EXPECT_THAT(with("{\"format\"", "[\"format\""), HasSubstr("bad.json"));
  line_.step_model = scratch_ / "none.json";
  EXPECT_THAT(refusal(), HasSubstr("there is no model of a step"));
}

TEST_F(PlanCommand, WithoutRanksPlansForThoseOfTheRolesOrOne) {
  line_.ranks.reset();
  EXPECT_THAT(output(), HasSubstr("1 rank on 1 node"));
  line_.overrides = {"cluster.roles={rollout: 2, scorer: 1, learner: 2}"};
  EXPECT_THAT(output(), HasSubstr("5 ranks on 1 node"));
}

TEST_F(PlanCommand, TakesTheBaseWhereTheReferenceIsNotMadeYet) {
  line_.overrides = {"model.reference=" + (scratch_ / "later").string(),
                     "model.base=" + (scratch_ / "reference").string()};
  EXPECT_THAT(output(), HasSubstr("planned with config.json of"));
  line_.overrides.pop_back();
  EXPECT_THAT(refusal(), HasSubstr("a plan needs at least the model's config.json"));
}

TEST_F(PlanCommand, SaysWhatIsAssumedWithoutPrompts) {
  line_.overrides = {"prompts.train=" + (scratch_ / "later.txt").string()};
  EXPECT_THAT(output(), HasSubstr("prompts of 32 tokens are assumed"));
}

TEST_F(PlanCommand, RefusesWhatOtherCommandsRefuse) {
  line_.overrides = {"train.minibatches=0", "vbon.N=0.5"};
  EXPECT_THAT(refusal(), testing::AllOf(HasSubstr("train.minibatches is 0"), HasSubstr("N")));
  line_.overrides = {"trian.steps=3"};
  EXPECT_THAT(refusal(), HasSubstr("train"));
  line_.overrides = {"cluster.roles={rollout: 1, scorer: 1, learner: 2}"};
  EXPECT_THAT(refusal(), HasSubstr("asks for 4 ranks (1 rollout + 1 scorer + 2 learner), but there are 3"));
  line_.overrides = {};
  line_.ranks = 0;
  EXPECT_THAT(refusal(), HasSubstr("--ranks 0"));
}

TEST(PlanWarnings, NameWhatIsTooSmall) {
  RunPlan plan;
  plan.memory.fullest_node = 4096;
  plan.memory.fullest_device = 4096;
  plan.files.run_bytes = 4096;
  EXPECT_TRUE(plan_warnings(plan, {.node_memory = 4096, .device_memory = 4096, .free_disk = 4096}).empty());
  EXPECT_TRUE(plan_warnings(plan, {}).empty());  // nothing is known: nothing is claimed
  EXPECT_THAT(plan_warnings(plan, {.node_memory = 4095, .device_memory = 4095, .free_disk = 4095}),
              testing::ElementsAre(HasSubstr("needs 4.0 KiB of memory"), HasSubstr("a GPU needs 4.0 KiB"),
                                   HasSubstr("run.dir")));
}

TEST(RankRanges, JoinRanksOfOneKind) {
  const comm::Placement placement =
      comm::plan(comm::Topology::uniform(12, 4, 2), comm::Roles::parse("{rollout: 9, scorer: 1, learner: 2}"), 8);
  const std::vector<RankRange> ranges = rank_ranges(placement);
  ASSERT_EQ(ranges.size(), 3u);
  EXPECT_EQ(ranges[0].last, 8);
  EXPECT_EQ(ranges[0].last_node, 2);
  EXPECT_EQ(ranges[0].devices, "0-1");
  EXPECT_EQ(ranges[1].first, 9);
  EXPECT_EQ(ranges[2].roles.text(), "learner");
  EXPECT_EQ(ranges[2].last, 11);
}

}  // namespace
}  // namespace vbon::cli
