#include "vbon/store/metrics.hpp"

#include <cmath>
#include <limits>

#include "temp_folder.hpp"
#include "vbon/base/error.hpp"
#include "vbon/store/h5_commit.hpp"

namespace vbon {
namespace {

using Metrics = TempFolder;

MetricsRow row_of(std::int64_t step, double reward = 0.1) {
  MetricsRow row{.step = step, .episodes = step * 64, .tokens = step * 1000, .values = {}, .time = {}};
  row.values = {{"reward", reward}, {"kl", 1.0 / 3 * static_cast<double>(step)}, {"value_loss", std::nan("")}};
  row.time = {{"sample", {1.5, 2.5}}, {"idle", {0.25, 0}}};
  return row;
}

TEST_F(Metrics, lines_come_back_bit_by_bit_and_a_torn_one_is_left_out) {
  const fs::path path = folder_ / "metrics.jsonl";
  MetricsRow odd = row_of(2, -0.1 + 0.3);
  odd.values["tiny"] = std::numeric_limits<double>::denorm_min();
  odd.values["infinite"] = INFINITY;
  {
    MetricsLog log(path, -1);
    log.append(row_of(1));
    log.append(odd);
  }
  std::ofstream(path, std::ios::app) << R"({"step":3,"epis)";
  const std::vector<MetricsRow> rows = read_metrics(path);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_TRUE(differences(rows[1], odd).empty());
  EXPECT_EQ(rows[1].values.at("tiny"), std::numeric_limits<double>::denorm_min());
  EXPECT_TRUE(std::isnan(rows[1].values.at("infinite")));
  EXPECT_EQ(rows[0].time, row_of(1).time);
  MetricsLog again(path, 2);  // takes the torn line off
  again.append(row_of(3));
  EXPECT_EQ(read_metrics(path).size(), 3u);
}

TEST_F(Metrics, resume_cuts_rows_past_the_checkpoint_and_compares_replayed_ones) {
  const fs::path path = folder_ / "metrics.jsonl";
  {
    MetricsLog log(path, -1);
    for (std::int64_t step = 1; step <= 5; ++step) EXPECT_TRUE(log.append(row_of(step)).empty());
  }
  MetricsLog log(path, 3);
  EXPECT_EQ(log.rows().size(), 3u);
  EXPECT_EQ(log.cut_rows().size(), 2u);
  EXPECT_EQ(read_metrics(path).size(), 3u);
  MetricsRow same = row_of(4);
  same.time["sample"] = {9, 9, 9};
  EXPECT_TRUE(log.append(same).empty());
  const std::vector<std::string> found = log.append(row_of(5, 0.2));
  EXPECT_EQ(found, std::vector<std::string>{"reward: 0.1 and 0.2"});
}

TEST_F(Metrics, the_hdf5_table_has_every_metric_and_pads_ranks) {
  std::vector<MetricsRow> rows = {row_of(1), row_of(2)};
  rows[1].values["late"] = 7;
  rows[1].time["sample"] = {1, 2, 3};
  const std::string sha256 = write_metrics_h5(folder_ / "metrics.h5", {}, rows);
  const std::vector<MetricsRow> back = read_metrics_h5(folder_ / "metrics.h5");
  ASSERT_EQ(back.size(), 2u);
  EXPECT_TRUE(differences(back[0], rows[0]).empty());
  EXPECT_TRUE(std::isnan(back[0].values.at("late")));
  EXPECT_EQ(back[1].values.at("late"), 7);
  EXPECT_EQ(back[1].tokens, 2000);
  EXPECT_EQ(back[1].time.at("sample"), (std::vector<double>{1, 2, 3}));
  EXPECT_TRUE(std::isnan(back[0].time.at("sample").at(2)));
  rows[0].time["sample"] = {99, 99};
  EXPECT_EQ(write_metrics_h5(folder_ / "metrics.h5", {}, rows), sha256);  // time does not enter
  EXPECT_NO_THROW(write_metrics_h5(folder_ / "none.h5", {}, {}));
  EXPECT_TRUE(read_metrics_h5(folder_ / "none.h5").empty());
}

TEST_F(Metrics, malformed_records_are_refused) {
  const std::string good = R"({"step":1,"episodes":1,"tokens":1,"reward":0.5,"time":{"idle":[0.1]}})";
  EXPECT_NO_THROW(parse_metrics_line(good, "line"));
  for (const char* bad :
       {"", "3", "[]", "{}", R"({"step":1,"episodes":1})", R"({"step":-1,"episodes":1,"tokens":1})",
        R"({"step":1.5,"episodes":1,"tokens":1})", R"({"step":1,"episodes":1,"tokens":1,"reward":"x"})",
        R"({"step":1,"episodes":1,"tokens":1,"reward":[1]})", R"({"step":1,"episodes":1,"tokens":1,"time":3})",
        R"({"step":1,"episodes":1,"tokens":1,"time":{"idle":3}})", R"({"step":1,"step":2,"episodes":1,"tokens":1})",
        R"({"step":1,"episodes":1,"tokens":1,"a/b":1})", R"({"step":1,"episodes":1,"tokens":1,"x":1e999})",
        R"({"step":18446744073709551615,"episodes":1,"tokens":1})"})
    EXPECT_THROW(parse_metrics_line(bad, "line"), UserError) << bad;
  write_raw(folder_ / "m.jsonl", good + "\n" + good + "\n");
  EXPECT_THROW(read_metrics(folder_ / "m.jsonl"), UserError);
}

}  // namespace
}  // namespace vbon
