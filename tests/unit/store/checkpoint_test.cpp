#include "vbon/store/checkpoint.hpp"

#include "temp_folder.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/sha256.hpp"

namespace vbon {
namespace {

using Checkpoints = TempFolder;

const std::vector<std::string> kParts = {"policy/model.safetensors", "policy/config.json",
                                         "state/optimizer.safetensors"};

fs::path begin_and_write(const CheckpointFiles& files, std::int64_t step, std::size_t parts = 3) {
  const fs::path folder = files.begin(step, kParts);
  for (std::size_t i = 0; i < parts; ++i) write_raw(folder / kParts[i], "step " + std::to_string(step) + kParts[i]);
  return folder;
}

Manifest manifest_of(std::int64_t step) {
  Manifest manifest;
  manifest.step = step;
  manifest.run_id = "run";
  manifest.attempt = 2;
  manifest.config_sha256 = sha256_hex("config");
  manifest.world_size = 3;
  manifest.environment = {{"cpu", "some"}, {"torch", "2.11.0"}};
  manifest.metrics = {{"win", 0.625}};
  return manifest;
}

Checkpoint write(const CheckpointFiles& files, std::int64_t step) {
  begin_and_write(files, step);
  return files.commit(manifest_of(step));
}

TEST_F(Checkpoints, a_committed_checkpoint_comes_back_whole) {
  const CheckpointFiles files(folder_);
  const Checkpoint written = write(files, 10);
  const Checkpoint read = verify_checkpoint(folder_ / "step-00000010");
  EXPECT_EQ(read.manifest.step, 10);
  EXPECT_EQ(read.manifest.run_id, "run");
  EXPECT_EQ(read.manifest.attempt, 2);
  EXPECT_EQ(read.manifest.world_size, 3);
  EXPECT_EQ(read.manifest.environment, written.manifest.environment);
  EXPECT_EQ(read.manifest.metrics, written.manifest.metrics);
  EXPECT_EQ(read.manifest.config_sha256, sha256_hex("config"));
  ASSERT_EQ(read.manifest.parts.size(), 3u);
  EXPECT_EQ(read.manifest.parts, written.manifest.parts);
  EXPECT_EQ(read.manifest.parts[1].name, "policy/model.safetensors");
  EXPECT_EQ(read.manifest.parts[1].sha256, sha256_hex("step 10policy/model.safetensors"));
  EXPECT_EQ(parts_sha256(read.manifest).size(), 64u);
  EXPECT_THROW(files.begin(10, kParts), InternalError);
}

TEST_F(Checkpoints, the_latest_valid_one_is_found_and_invalid_ones_are_named) {
  const CheckpointFiles files(folder_);
  std::vector<std::string> skipped;
  EXPECT_FALSE(files.latest(skipped));
  write(files, 1);
  write(files, 2);
  write(files, 3);
  write(files, 4);
  begin_and_write(files, 5);                                                            // no manifest
  fs::remove(folder_ / "step-00000004/state/optimizer.safetensors");                    // missing part
  write_raw(folder_ / "step-00000003/policy/config.json", "step 3policy/config.jsoN");  // changed part
  const std::string manifest = read_file(folder_ / "step-00000002/manifest.json");
  write_raw(folder_ / "step-00000002/manifest.json", manifest.substr(0, manifest.size() / 2));
  const auto latest = files.latest(skipped);
  ASSERT_TRUE(latest);
  EXPECT_EQ(latest->manifest.step, 1);
  ASSERT_EQ(skipped.size(), 4u);
  EXPECT_NE(skipped[0].find("manifest.json"), std::string::npos);
  EXPECT_NE(skipped[1].find("optimizer.safetensors' is missing"), std::string::npos);
  EXPECT_NE(skipped[2].find("changed or damaged"), std::string::npos);
  fs::rename(folder_ / "step-00000001", folder_ / "step-00000009");  // a folder under another step's name
  EXPECT_FALSE(files.latest(skipped));
}

TEST_F(Checkpoints, retention_keeps_the_last_and_the_protected_and_leaves_strangers) {
  const CheckpointFiles files(folder_, Keep::last_of(2));
  for (std::int64_t step = 1; step <= 6; ++step) write(files, step);
  write_raw(folder_ / "step-00000003/policy/notes.txt", "the user's");
  files.retain({2}, 6);
  EXPECT_EQ(files.steps(), (std::vector<std::int64_t>{2, 5, 6}));
  EXPECT_FALSE(fs::exists(folder_ / "step-00000001"));
  EXPECT_EQ(read_file(folder_ / "step-00000003/policy/notes.txt"), "the user's");
  EXPECT_FALSE(fs::exists(folder_ / "step-00000003/policy/config.json"));
  EXPECT_TRUE(fs::exists(folder_ / "step-00000002/policy/config.json"));
}

TEST_F(Checkpoints, damaged_ones_of_later_steps_push_no_sound_one_out) {
  const CheckpointFiles files(folder_, Keep::last_of(1));
  for (std::int64_t step : {2, 4, 6}) write(files, step);
  for (const char* name : {"step-00000004", "step-00000006"}) write_raw(folder_ / name / kParts[0], "damaged");
  std::vector<std::string> skipped;
  EXPECT_EQ(files.latest(skipped)->manifest.step, 2);
  EXPECT_FALSE(files.is_valid(4));
  write(files, 3);
  files.retain({}, 3);
  EXPECT_EQ(files.steps(), (std::vector<std::int64_t>{3, 4, 6}));
  write(files, 4);  // its step has come: it is written again
  files.retain({}, 4);
  EXPECT_TRUE(files.is_valid(4));
  EXPECT_EQ(files.steps(), (std::vector<std::int64_t>{4, 6}));
}

TEST_F(Checkpoints, unfinished_folders_go_as_far_as_their_plan_names_them) {
  const CheckpointFiles files(folder_);
  write(files, 1);
  const fs::path partial = begin_and_write(files, 2, 1);
  write_raw(partial / "policy/.config.json.tmp", "torn");
  make_folders(folder_ / "step-00000003");
  make_folders(folder_ / "step-00000004");
  write_raw(folder_ / "step-00000004/thesis.tex", "the user's");
  files.clean();
  EXPECT_FALSE(fs::exists(partial));
  EXPECT_FALSE(fs::exists(folder_ / "step-00000003"));
  EXPECT_TRUE(fs::exists(folder_ / "step-00000004/thesis.tex"));
  std::vector<std::string> skipped;
  EXPECT_EQ(files.latest(skipped)->manifest.step, 1);
  begin_and_write(files, 2);  // the step comes round again
  EXPECT_EQ(files.commit(manifest_of(2)).manifest.step, 2);
}

TEST_F(Checkpoints, a_manifest_cannot_name_files_outside_its_folder) {
  const CheckpointFiles files(folder_);
  write(files, 1);
  const fs::path path = folder_ / "step-00000001/manifest.json";
  const std::string good = read_file(path);
  write_raw(folder_ / "victim", "x");
  for (const std::string evil : {"../victim", "/etc/passwd", "policy/../../victim", ".hidden", "a//b", "a/b/c/d", ""}) {
    std::string text = good;
    text.replace(text.find("policy/config.json"), 18, evil);
    write_raw(path, text);
    EXPECT_THROW(verify_checkpoint(folder_ / "step-00000001"), UserError) << evil;
  }
  write_raw(folder_ / "step-00000001/plan.json", R"({"format":"vbon.checkpoint_plan","parts":["../victim"]})");
  fs::remove(path);
  files.clean();
  EXPECT_TRUE(fs::exists(folder_ / "victim"));
}

}  // namespace
}  // namespace vbon
