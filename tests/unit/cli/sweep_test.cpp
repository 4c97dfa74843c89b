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
  for (const char* word : {"--partition=gpu", "--time=04:00:00", "--array=0-1 ", "--array=0-13%16", "afterok:$stages",
                           "afterany:$runs", "'runs/study' report", "'/a dir/grid.yaml' --stage", "VBON='/opt/vbon'"})
    EXPECT_THAT(script, HasSubstr(word));
}

}  // namespace
}  // namespace vbon::cli
