#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "cli/sweep_grid.hpp"
#include "cli/sweep_slurm.hpp"
#include "vbon/base/error.hpp"

namespace vbon::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

constexpr const char* kGrid = R"(
config: base.yaml
dir: runs/study
seeds: [1, 2]
launch: [jobs/mpirun.sh, -n, 3]
set: {eval.samples: 8, train.steps: 5}
runs:
  - name: vbon
    set: {train.method: vbon, train.steps: 7}
    product: {vbon.N: [2, 4.5], vbon.objective: [exact, L]}
  - set: {train.method: dpo}
    zip: {preference.beta: [0.1, 1], optimizer.learning_rate: [1e-5, 3e-6]}
  - set: {train.method: regression}
slurm: {partition: gpu, time: "04:00:00"}
)";

std::string refusal(const std::string& text) {
  try {
    parse_grid(text, "somewhere/grid.yaml");
  } catch (const UserError& e) {
    return e.what();
  }
  return "";
}

TEST(Grid, products_zips_and_seeds) {
  const Grid grid = parse_grid(kGrid, "somewhere/grid.yaml");
  EXPECT_EQ(grid.name, "grid");
  EXPECT_EQ(grid.config, "somewhere/base.yaml");
  EXPECT_EQ(grid.dir, "runs/study");
  EXPECT_THAT(grid.launch, ElementsAre("jobs/mpirun.sh", "-n", "3"));
  ASSERT_EQ(grid.runs.size(), (4u + 2 + 1) * 2);
  EXPECT_EQ(grid.runs[0].label, "vbon-N2-objectiveexact-seed1");
  EXPECT_EQ(grid.runs[7].label, "vbon-N4.5-objectiveL-seed2");
  EXPECT_THAT(grid.runs[7].overrides,
              ElementsAre(Pair("eval.samples", "8"), Pair("train.steps", "7"), Pair("train.method", "vbon"),
                          Pair("vbon.N", "4.5"), Pair("vbon.objective", "L"), Pair("run.seed", "2")));
  EXPECT_EQ(grid.runs[10].label, "dpo-beta1-learning_rate3e-6-seed1");
  EXPECT_EQ(grid.runs.back().label, "regression-seed2");
  std::set<std::string> labels;
  for (const GridRun& run : grid.runs) EXPECT_TRUE(labels.insert(run.label).second);
}

TEST(Grid, runs_say_their_ranks) {
  const Grid grid = parse_grid(R"(
config: base.yaml
dir: runs/study
set: {train.steps: 5, ranks: 3}
runs:
  - name: strong
    product: {ranks: [1, 4], train.minibatches: [1, 2]}
  - name: weak
    zip: {ranks: [2, 8], train.prompts_per_step: [16, 64]}
  - name: same
    set: {cluster.roles: all}
)",
                               "grid.yaml");
  std::vector<std::pair<std::string, int>> found;
  for (const GridRun& run : grid.runs) found.emplace_back(run.label, run.ranks);
  EXPECT_THAT(found, ElementsAre(Pair("strong-ranks1-minibatches1", 1), Pair("strong-ranks1-minibatches2", 1),
                                 Pair("strong-ranks4-minibatches1", 4), Pair("strong-ranks4-minibatches2", 4),
                                 Pair("weak-ranks2-prompts_per_step16", 2), Pair("weak-ranks8-prompts_per_step64", 8),
                                 Pair("same-ranks3", 3)));
  EXPECT_TRUE(grid.has_ranks());
  EXPECT_THAT(grid.common, ElementsAre(Pair("train.steps", "5")));
  for (const GridRun& run : grid.runs)
    for (const auto& [key, value] : run.overrides) EXPECT_NE(key, "ranks") << "the configuration has no such key";
  EXPECT_FALSE(parse_grid(kGrid, "grid.yaml").has_ranks());
}

TEST(Grid, ranks_that_cannot_be) {
  const std::string head = "config: a.yaml\ndir: b\n";
  EXPECT_THAT(refusal(head + "runs: [{name: x, product: {ranks: [0, two]}}]"),
              testing::AllOf(HasSubstr("ranks '0' is not a number"), HasSubstr("ranks 'two' is not a number")));
  EXPECT_THAT(refusal(head + "runs: [{name: x, set: {ranks: 2}}, {name: y}]"), HasSubstr("and y does not"));
  EXPECT_THAT(refusal(head + "launch: [mpirun, -n, 3]\nruns: [{name: x, set: {ranks: 2}}]"),
              HasSubstr("leave out its -n"));
}

TEST(Grid, everything_wrong_is_said) {
  const std::string text = refusal(R"(
confg: base.yaml
runs:
  - prodct: {vbon.N: [2]}
  - zip: {a.b: [1, 2], c.d: [1]}
  - product: {vbon.N: 3}
)");
  for (const char* word : {"confg", "did you mean 'config'", "`config` is missing", "`dir` is missing", "prodct",
                           "'a.b' has 2 values and 'c.d' has 1", "vbon.N needs a list"})
    EXPECT_THAT(text, HasSubstr(word));
  EXPECT_THAT(refusal("config: a.yaml\ndir: b\nruns: []"), HasSubstr("at least one block"));
  EXPECT_THAT(refusal("- a"), HasSubstr("a grid is a map"));
}

TEST(Grid, the_submit_script_chains_stages_runs_and_report) {
  SweepPlan plan{.grid = parse_grid(kGrid, "somewhere/grid.yaml")};
  plan.stages.resize(2);
  const std::string script = slurm_script(plan, "/a dir/grid.yaml", "/opt/vbon");
  for (const char* word : {"--partition=gpu", "--time=04:00:00", "--array=0-1 ", "--array=0-13%16", "afterok$stages",
                           "afterany$runs", "'runs/study' report", "'/a dir/grid.yaml' --stage", "VBON='/opt/vbon'"})
    EXPECT_THAT(script, HasSubstr(word));
}

TEST(Grid, the_submit_script_asks_for_the_ranks_of_the_runs) {
  SweepPlan plan{.grid = parse_grid(R"(
config: base.yaml
dir: runs/study
runs: [{name: x, product: {ranks: [1, 4, 6], vbon.N: [2, 4]}}, {name: y, set: {ranks: 4}}]
slurm: {ntasks-per-node: 4}
)",
                                    "grid.yaml")};
  plan.stages.resize(1);
  plan.stages[0].ranks = 6;
  const std::string script = slurm_script(plan, "/grid.yaml", "/opt/vbon");
  for (const char* word :
       {"stages+=:$(piece --nodes=2 --ntasks=6 --ntasks-per-node=4 --array=0 ",
        "runs+=:$(piece --nodes=1 --ntasks=1 --ntasks-per-node=1 --array=0-1%16 ",
        "runs+=:$(piece --nodes=1 --ntasks=4 --ntasks-per-node=4 --array=2-3,6%16 ",
        "runs+=:$(piece --nodes=2 --ntasks=6 --ntasks-per-node=4 --array=4-5%16 ", "'runs/study' scaling"})
    EXPECT_THAT(script, HasSubstr(word));
}

}  // namespace
}  // namespace vbon::cli
