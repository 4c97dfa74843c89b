#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>
#include <thread>

#include "examples.hpp"
#include "temp_folder.hpp"
#include "vbon/base/error.hpp"
#include "vbon/store/h5_commit.hpp"
#include "vbon/store/rollout_files.hpp"

namespace vbon {
namespace {

using RolloutTest = TempFolder;

RolloutHeader header_of(std::int64_t step, std::int64_t chunk = -1, std::int64_t num_chunks = 2) {
  RolloutHeader header;
  header.provenance.run_id = "run";
  header.step = step;
  header.chunk = chunk;
  header.num_chunks = num_chunks;
  return header;
}

TEST_F(RolloutTest, chunks_join_into_a_step_and_go) {
  const RolloutFiles files(folder_);
  std::vector<RolloutBatch> read;
  for (const RolloutStage stage : {RolloutStage::sampled, RolloutStage::scored}) {
    read.clear();
    for (std::int64_t chunk = 0; chunk < 2; ++chunk) {
      const RolloutBatch batch = example_rollouts(chunk * 3, 3, stage);
      const std::string sha256 = files.write_chunk(stage, header_of(7, chunk), batch);
      read.push_back(files.read_chunk(stage, 7, chunk, sha256));
      EXPECT_EQ(first_difference(read.back(), batch), "");
      EXPECT_THROW(files.read_chunk(stage, 7, chunk, std::string(64, '0')), EnvironmentError);
    }
  }
  EXPECT_EQ(num_files(), 4u);
  EXPECT_EQ(first_difference(concatenate(read), example_rollouts(0, 6, RolloutStage::scored)), "");
  const RolloutBatch step = example_rollouts(0, 6, RolloutStage::learned);
  files.write_step(header_of(7), step);
  EXPECT_EQ(num_files(), 1u);
  const Rollouts back = files.read_step(7);
  EXPECT_EQ(back.header.step, 7);
  EXPECT_EQ(back.batch.tokens, step.tokens);
  EXPECT_EQ(back.batch.log_f, step.log_f);
  // What was not measured is there as NaN or 0.
  EXPECT_TRUE(std::isnan(back.batch.value.at(0)));
  EXPECT_EQ(back.batch.value.size(), step.tokens.size());
  EXPECT_TRUE(std::isnan(back.batch.evaluator.at(5)));
  EXPECT_EQ(back.batch.at_ceiling.at(5), 0);
}

// Rows of two numbers: of a prompt of three tokens with the first of its four samples, then of each sample's own.
CarriedTrunk example_trunk(const RolloutBatch& batch) {
  CarriedTrunk trunk;
  for (std::size_t i = 0; i < batch.length.size(); ++i) {
    trunk.rows.push_back(batch.length[i] - 1 + (i % 4 == 0 ? 3 : 0));
    for (std::int32_t k = 0; k < 2 * trunk.rows.back(); ++k)
      trunk.values.push_back(static_cast<float>(i) + 0.125f * static_cast<float>(k));
  }
  return trunk;
}

TEST_F(RolloutTest, chunks_carry_rows_of_the_trunk_and_a_step_keeps_none) {
  const RolloutFiles files(folder_);
  std::vector<RolloutBatch> read;
  for (std::int64_t chunk = 0; chunk < 2; ++chunk) {
    RolloutBatch batch = example_rollouts(chunk * 3, 3, RolloutStage::scored);
    if (chunk == 1) batch.trunk = example_trunk(batch);
    const std::string sha256 = files.write_chunk(RolloutStage::scored, header_of(7, chunk), batch);
    read.push_back(files.read_chunk(RolloutStage::scored, 7, chunk, sha256));
    EXPECT_EQ(first_difference(read.back(), batch), "");
  }
  RolloutBatch all = concatenate(read);
  ASSERT_EQ(all.trunk.rows.size(), 24u);
  EXPECT_TRUE(std::all_of(all.trunk.rows.begin(), all.trunk.rows.begin() + 12, [](auto rows) { return rows == 0; }));
  EXPECT_EQ(all.trunk.values, read[1].trunk.values);
  RolloutBatch others = of_source(all, RolloutSource::anchor), policy = of_source(all, RolloutSource::policy);
  EXPECT_EQ(others.trunk.rows.size() + policy.trunk.rows.size(), 24u);
  EXPECT_EQ(others.trunk.values.size() + policy.trunk.values.size(), all.trunk.values.size());
  std::size_t begin = 0;  // of the row of sequence i
  std::vector<float> of_anchor;
  for (std::size_t i = 0; i < 24; ++i) {
    const auto size = static_cast<std::size_t>(2 * all.trunk.rows[i]);
    if (all.source[i] == 1)
      of_anchor.insert(of_anchor.end(), all.trunk.values.begin() + static_cast<std::ptrdiff_t>(begin),
                       all.trunk.values.begin() + static_cast<std::ptrdiff_t>(begin + size));
    begin += size;
  }
  EXPECT_EQ(others.trunk.values, of_anchor);

  RolloutBatch broken = read[1];
  const auto longest = std::max_element(broken.length.begin(), broken.length.end()) - broken.length.begin();
  broken.trunk.rows[static_cast<std::size_t>(longest)] = 1;
  EXPECT_THROW(validate(broken, RolloutStage::scored, "it"), UserError);
  broken = read[1];
  broken.trunk.values.pop_back();
  EXPECT_THROW(validate(broken, RolloutStage::scored, "it"), UserError);
  broken = read[1];
  broken.trunk.values[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(validate(broken, RolloutStage::scored, "it"), UserError);
  broken = read[1];
  broken.trunk.rows.pop_back();
  EXPECT_THROW(validate(broken, RolloutStage::scored, "it"), UserError);
  RolloutBatch step = example_rollouts(0, 6, RolloutStage::learned);
  step.trunk = all.trunk;
  EXPECT_THROW(files.write_step(header_of(7), step), UserError);
  step = read[1];
  step.trunk.values[3] += 1;
  EXPECT_EQ(first_difference(step, read[1]), "trunk");
}

TEST_F(RolloutTest, packed_batches_come_back_bit_for_bit) {
  std::vector<RolloutBatch> batches;
  std::vector<std::byte> bytes;
  for (const RolloutStage stage : {RolloutStage::sampled, RolloutStage::scored, RolloutStage::learned}) {
    batches.push_back(example_rollouts(3, 4, stage));
    if (stage == RolloutStage::scored) batches.back().trunk = example_trunk(batches.back());
    pack(batches.back(), bytes);
  }
  std::span<const std::byte> left = bytes;
  for (const RolloutBatch& batch : batches) {
    const RolloutBatch back = unpack(left);
    EXPECT_EQ(first_difference(back, batch), "");
    EXPECT_EQ(back.max_new_tokens, batch.max_new_tokens);
    EXPECT_EQ(back.num_more_rewards, batch.num_more_rewards);
    EXPECT_EQ(back.attempt, batch.attempt);
  }
  EXPECT_TRUE(left.empty());
  left = std::span(bytes).first(bytes.size() - 1);
  EXPECT_NO_THROW(unpack(left));
  EXPECT_NO_THROW(unpack(left));
  EXPECT_THROW(unpack(left), InternalError);
}

TEST_F(RolloutTest, a_chunk_that_is_shown_late_is_waited_for_and_one_that_never_comes_is_named) {
  const RolloutFiles files(folder_), patient(folder_, Keep::all(), 20);
  const RolloutBatch batch = example_rollouts(0, 3, RolloutStage::scored);
  const std::string sha256 = files.write_chunk(RolloutStage::scored, header_of(7, 0), batch);
  const fs::path path = files.chunk_path(RolloutStage::scored, 7, 0), away = folder_ / "away";
  for (const std::string first : {"", "torn", "another"}) {  // what is to be seen of it at first
    fs::rename(path, away);
    if (first == "torn") write_raw(path, read_file(away).substr(0, 700));
    if (first == "another")
      files.write_chunk(RolloutStage::scored, header_of(7, 0), example_rollouts(3, 3, RolloutStage::scored));
    std::thread late([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      fs::rename(away, path);
    });
    EXPECT_EQ(first_difference(patient.read_chunk(RolloutStage::scored, 7, 0, sha256), batch), "") << first;
    late.join();
  }
  fs::remove(path);
  try {
    RolloutFiles(folder_, Keep::all(), 0.05).read_chunk(RolloutStage::scored, 7, 0, sha256);
    FAIL() << "read";
  } catch (const EnvironmentError& error) {
    EXPECT_NE(std::string(error.what()).find(path.string()), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("cluster.file_wait_s"), std::string::npos) << error.what();
  }
}

TEST_F(RolloutTest, the_attempt_does_not_enter_the_checksum_and_everything_else_does) {
  RolloutBatch batch = example_rollouts(0, 2, RolloutStage::learned);
  const std::string sha256 = write_rollouts(folder_ / "a.h5", RolloutStage::learned, header_of(1), batch);
  batch.attempt.assign(batch.attempt.size(), 2);
  RolloutHeader later = header_of(1);
  later.provenance.attempt = 2;
  later.provenance.created_utc = "2031-01-01T00:00:00Z";
  EXPECT_EQ(write_rollouts(folder_ / "b.h5", RolloutStage::learned, later, batch), sha256);
  batch.logp_behavior[0] = std::nextafter(batch.logp_behavior[0], 0.0f);
  EXPECT_NE(write_rollouts(folder_ / "c.h5", RolloutStage::learned, later, batch), sha256);
  EXPECT_EQ(first_difference(batch, example_rollouts(0, 2, RolloutStage::learned)), "logp_behavior");
}

TEST_F(RolloutTest, keep_and_clean_touch_only_what_we_can_name) {
  const RolloutFiles files(folder_, Keep::last_of(2));
  for (std::int64_t step = 1; step <= 5; ++step)
    files.write_step(header_of(step), example_rollouts(0, 1, RolloutStage::learned));
  EXPECT_EQ(files.steps(), (std::vector<std::int64_t>{4, 5}));
  files.write_chunk(RolloutStage::sampled, header_of(6, 1), example_rollouts(0, 1, RolloutStage::sampled));
  const std::vector<std::string> theirs = {"step-00000001.h5.bak", "notes.txt", "step-1.h5",
                                           "step-00000006.chunk-1.sampled.h5", ".other.tmp"};
  for (const std::string& name : theirs) write_raw(folder_ / name, "x");
  write_raw(folder_ / ".step-00000006.chunk-00000.scored.h5.tmp", "torn");
  write_raw(folder_ / ".step-00000006.h5.tmp", "torn");
  files.clean();
  EXPECT_EQ(files.steps(), (std::vector<std::int64_t>{4, 5}));
  EXPECT_EQ(num_files(), 2 + theirs.size());
  EXPECT_EQ(files.unknown_files().size(), theirs.size());
}

TEST_F(RolloutTest, sequences_that_contradict_themselves_are_refused) {
  using Mistake = std::function<void(RolloutBatch&)>;
  const std::vector<Mistake> mistakes = {
      [](RolloutBatch& b) { b.tokens[0] = -1; },
      [](RolloutBatch& b) { b.length[0] = 9; },
      [](RolloutBatch& b) { b.length.pop_back(); },
      [](RolloutBatch& b) { b.source[0] = 2; },
      [](RolloutBatch& b) { b.finished[0] = 3; },
      [](RolloutBatch& b) { b.logp_behavior[0] = std::nanf(""); },
      [](RolloutBatch& b) { b.logp_behavior.clear(); },
      [](RolloutBatch& b) { b.kl[0] = INFINITY; },
      [](RolloutBatch& b) { b.kl.pop_back(); },
      [](RolloutBatch& b) { b.reward[1] = std::nanf(""); },
      [](RolloutBatch& b) { b.reward.clear(); },
      [](RolloutBatch& b) { b = RolloutBatch{}; },
      [](RolloutBatch& b) {  // a number behind the end
        for (std::size_t i = 0; i < b.length.size(); ++i)
          if (b.length[i] < b.max_new_tokens) b.entropy[i * 5 + 4] = 0;
      },
  };
  for (std::size_t i = 0; i < mistakes.size(); ++i) {
    RolloutBatch batch = example_rollouts(0, 3, RolloutStage::learned);
    mistakes[i](batch);
    EXPECT_THROW(write_rollouts(folder_ / "x.h5", RolloutStage::learned, header_of(1), batch), UserError) << i;
  }
  EXPECT_EQ(num_files(), 0u);
}

TEST(Keep, is_all_or_the_last_k) {
  EXPECT_EQ(Keep::parse("all"), Keep::all());
  EXPECT_EQ(Keep::parse("last 3"), Keep::last_of(3));
  EXPECT_EQ(Keep::parse(Keep::last_of(12).text()), Keep::last_of(12));
  for (const char* bad : {"", "last", "last 0", "last -1", "last x", "3", "last 3x"})
    EXPECT_THROW(Keep::parse(bad), UserError);
}

}  // namespace
}  // namespace vbon
