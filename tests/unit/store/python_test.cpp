// Independent readers and writers: our files read by h5py, safetensors and numpy, and a pool written by h5py read by
// us.
#include "examples.hpp"
#include "temp_folder.hpp"
#include "vbon/base/error.hpp"
#include "vbon/store/h5_commit.hpp"
#include "vbon/store/metrics.hpp"
#include "vbon/store/rollout_files.hpp"
#include "vbon/store/safetensors.hpp"

namespace vbon {
namespace {

using PythonOracle = TempFolder;

TEST_F(PythonOracle, our_files_hold_for_h5py_and_safetensors_what_the_schema_says) {
  if (!python_has("h5py, numpy, safetensors")) GTEST_SKIP() << "no Python with h5py, numpy and safetensors";
  write_pool(folder_ / "pool.h5", example_pool_header(), example_block(0, 6));
  RolloutHeader header;
  header.step = 7;
  write_rollouts(folder_ / "rollouts.h5", RolloutStage::learned, header, example_rollouts(0, 3, RolloutStage::learned));
  const std::vector<MetricsRow> rows = {
      {.step = 1, .episodes = 64, .tokens = 900, .values = {{"reward", 0.1}}, .time = {{"idle", {0.5}}}},
      {.step = 2,
       .episodes = 128,
       .tokens = 1800,
       .values = {{"reward", 0.2}, {"kl", 0.25}},
       .time = {{"idle", {0.5, 1}}}}};
  write_metrics_h5(folder_ / "metrics.h5", {}, rows);
  for (const MetricsRow& row : rows) LineAppender(folder_ / "metrics.jsonl").append(to_json_line(row));
  write_eval(folder_ / "eval.h5", example_eval());
  const std::vector<double> large(1'000'000, 0.5);  // 8 MB: chunked
  write_h5_atomically(folder_ / "large.h5", [&](H5File& file) { file.write("x", {1000, 1000}, large); });
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  write_safetensors(folder_ / "model.safetensors",
                    std::vector<TensorView>{{"w", DType::f32, {2, 3}, std::as_bytes(std::span(values))}});
  EXPECT_EQ(run_python("'" VBON_TEST_DATA "/unit/store/check_files.py' '" + folder_.string() + "'"), 0);
}

TEST_F(PythonOracle, a_pool_that_h5py_wrote_is_read) {
  const fs::path golden = fs::path(VBON_TEST_DATA) / "golden/store";
  const Pool pool = read_pool(golden / "pool_h5py.h5");
  EXPECT_EQ(pool.header.temperature, 0.7);
  EXPECT_EQ(pool.header.eos_ids, std::vector<std::int64_t>{0});
  EXPECT_EQ(pool.block.prompts.text, (std::vector<std::string>{"a film", "caf\xC3\xA9 \xF0\x9F\x8E\xAC"}));
  EXPECT_EQ(pool.block.prompts.id, (std::vector<std::int64_t>{5, 9}));
  EXPECT_EQ(pool.block.prompts.tokens_of(1).size(), 3u);
  EXPECT_EQ(pool.block.samples.tokens_of(0, 1)[1], 12);
  EXPECT_EQ(std::vector<float>(pool.table(0).begin(), pool.table(0).end()), (std::vector<float>{-2, -1, -0.5f}));
  EXPECT_EQ(pool.content_sha256.size(), 64u);
  // What readers must not follow or run, with the words in which each is refused.
  const std::vector<std::pair<std::string, std::string>> refused = {{"gzip", "through a filter"},
                                                                    {"external_storage", "in another file"},
                                                                    {"external_link", "external link"},
                                                                    {"soft_link", "soft or external"},
                                                                    {"virtual", "is virtual"},
                                                                    {"sparse", "more than the file can hold"},
                                                                    {"wrong_type", "float64 [2, 3] where float32"},
                                                                    {"newer_schema", "schema version 2"},
                                                                    {"nan_reward", "is nan"},
                                                                    {"circle", "more groups in each other"},
                                                                    {"text_matrix", "text of shape"}};
  for (const auto& [name, words] : refused) {
    try {
      read_pool(golden / "refused" / (name + ".h5"));
      ADD_FAILURE() << name << " was read";
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << name << ": " << error.what();
    }
  }
}

}  // namespace
}  // namespace vbon
