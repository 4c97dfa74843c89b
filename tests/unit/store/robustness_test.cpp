// What the store promises when the disk is full, the writer is killed or a file is damaged.
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cstring>
#include <functional>

#include "examples.hpp"
#include "temp_folder.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/sha256.hpp"
#include "vbon/store/checkpoint.hpp"
#include "vbon/store/h5_commit.hpp"
#include "vbon/store/metrics.hpp"
#include "vbon/store/rollout_files.hpp"
#include "vbon/store/run_folder.hpp"
#include "vbon/store/safetensors.hpp"

namespace vbon {
namespace {

// ---- a full disk: no file of this process may grow beyond a limit

class FullDisk : public TempFolder {
 protected:
  void SetUp() override {
    TempFolder::SetUp();
    previous_ = ::signal(SIGXFSZ, SIG_IGN);
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &unlimited_), 0);
  }
  void TearDown() override {
    allow_all();
    ::signal(SIGXFSZ, previous_);
    TempFolder::TearDown();
  }
  void allow(rlim_t bytes) const {
    const rlimit limit = {bytes, unlimited_.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  void allow_all() const { ::setrlimit(RLIMIT_FSIZE, &unlimited_); }

  rlimit unlimited_ = {};
  void (*previous_)(int) = SIG_DFL;
};

TEST_F(FullDisk, is_an_environment_error_and_leaves_the_old_file) {
  const fs::path pool = folder_ / "pool.h5", weights = folder_ / "model.safetensors";
  const std::vector<float> values(4000, 1.5f);
  const std::vector<TensorView> tensors = {{"w", DType::f32, {4000}, std::as_bytes(std::span(values))}};
  const std::string sha256 = write_pool(pool, example_pool_header(), example_block(0, 3));
  write_safetensors(weights, tensors);
  const std::string weights_before = sha256_file(weights);
  for (const rlim_t bytes : std::initializer_list<rlim_t>{0, 100, 600, 5000, 12000}) {
    allow(bytes);
    EXPECT_THROW(write_pool(pool, example_pool_header(), example_block(0, 40)), EnvironmentError) << bytes;
    EXPECT_THROW(write_safetensors(weights, tensors), EnvironmentError) << bytes;
    allow_all();
    EXPECT_EQ(read_pool(pool).content_sha256, sha256);
    EXPECT_EQ(sha256_file(weights), weights_before);
    EXPECT_EQ(num_files(), 2u) << "no temporaries stay";
  }
  EXPECT_NO_THROW(write_pool(pool, example_pool_header(), example_block(0, 40)));  // with room again
}

TEST_F(FullDisk, a_run_goes_on_where_the_disk_filled_up) {
  const auto same = [](const std::string&) { return std::vector<std::string>{}; };
  {
    RunFolder run =
        RunFolder::open(folder_ / "run", {.config = std::string(3000, '#'), .job = "", .changed_keys = same});
    MetricsLog log(run.metrics_jsonl(), -1);
    log.append({.step = 1, .values = {{"reward", 0.5}}});
    allow(fs::file_size(run.metrics_jsonl()) + 10);  // room for a part of a line
    EXPECT_THROW(log.append({.step = 2, .values = {{"reward", 0.25}}}), EnvironmentError);
    const CheckpointFiles checkpoints(run.checkpoints());
    EXPECT_THROW(checkpoints.begin(2, std::vector<std::string>(50, "policy/model.safetensors")), EnvironmentError);
    allow_all();
  }
  RunFolder run = RunFolder::open(folder_ / "run", {.config = std::string(3000, '#'), .job = "", .changed_keys = same});
  EXPECT_EQ(run.attempt(), 2);
  MetricsLog log(run.metrics_jsonl(), 1);
  EXPECT_EQ(log.rows().size(), 1u);
  log.append({.step = 2, .values = {{"reward", 0.25}}});
  EXPECT_EQ(read_metrics(run.metrics_jsonl()).size(), 2u);
}

// ---- a writer killed at any moment

using KilledWriter = TempFolder;

// A step's rollouts as they are read back: what was not measured is NaN or 0.
RolloutBatch complete_rollouts(std::int64_t step) {
  RolloutBatch batch = example_rollouts(step, 2, RolloutStage::learned);
  batch.value.assign(batch.tokens.size(), std::nanf(""));
  batch.returns = batch.prefix_reward = batch.value;
  batch.evaluator.assign(batch.reward.size(), std::nanf(""));
  batch.at_ceiling.assign(batch.reward.size(), 0);
  return batch;
}

// Writes step after step, each kind of file, and says so through a pipe when all of a step is committed.
[[noreturn]] void write_steps_forever(const fs::path& folder, std::int64_t first, int acknowledge) {
  const RolloutFiles rollouts(folder / "rollouts");
  const CheckpointFiles checkpoints(folder / "checkpoints", Keep::last_of(2));
  MetricsLog log(folder / "metrics.jsonl", first - 1);
  for (std::int64_t step = first;; ++step) {
    RolloutHeader header;
    header.step = step;
    rollouts.write_chunk(RolloutStage::sampled, {.step = step, .chunk = 0},
                         example_rollouts(step, 1, RolloutStage::sampled));
    rollouts.write_step(header, example_rollouts(step, 2, RolloutStage::learned));
    log.append({.step = step, .values = {{"reward", 0.5}}});  // before the checkpoint, which vouches for it
    const auto value = static_cast<float>(step);
    checkpoints.begin(step, std::vector<std::string>{"policy/model.safetensors"});
    write_safetensors(checkpoints.step_folder(step) / "policy/model.safetensors",
                      std::vector<TensorView>{{"w", DType::f32, {1}, std::as_bytes(std::span(&value, 1))}});
    Manifest manifest;
    manifest.step = step;
    checkpoints.commit(manifest);
    checkpoints.retain({}, step);
    if (::write(acknowledge, &step, sizeof step) != sizeof step) ::_exit(0);
  }
}

TEST_F(KilledWriter, loses_nothing_acknowledged_and_leaves_nothing_torn) {
  for (const char* name : {"rollouts", "checkpoints"}) make_folders(folder_ / name);
  std::mt19937 random(1);
  std::int64_t first = 1, acknowledged = 0;
  for (int round = 0; round < 20; ++round) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::close(ends[0]);
      try {
        write_steps_forever(folder_, first, ends[1]);
      } catch (...) {
        ::_exit(1);
      }
    }
    ::close(ends[1]);
    std::int64_t step = 0;
    if (round % 2 == 0 && ::read(ends[0], &step, sizeof step) == sizeof step) acknowledged = step;  // well under way
    ::usleep(static_cast<useconds_t>(random() % 40000));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the writer failed by itself";
    while (::read(ends[0], &step, sizeof step) == sizeof step) acknowledged = step;
    ::close(ends[0]);

    RolloutFiles(folder_ / "rollouts").clean();
    const auto steps = RolloutFiles(folder_ / "rollouts").steps();
    for (const std::int64_t written : steps)
      EXPECT_EQ(
          first_difference(RolloutFiles(folder_ / "rollouts").read_step(written).batch, complete_rollouts(written)),
          "");
    EXPECT_GE(static_cast<std::int64_t>(steps.size()), acknowledged);
    EXPECT_GE(static_cast<std::int64_t>(read_metrics(folder_ / "metrics.jsonl").size()), acknowledged);
    const CheckpointFiles checkpoints(folder_ / "checkpoints");
    checkpoints.clean();
    std::vector<std::string> skipped;
    const auto latest = checkpoints.latest(skipped);
    EXPECT_TRUE(skipped.empty()) << skipped.front();
    ASSERT_TRUE(latest || acknowledged == 0);
    EXPECT_GE(latest ? latest->manifest.step : 0, acknowledged);
    first = latest ? latest->manifest.step + 1 : 1;
  }
  EXPECT_GT(acknowledged, 0);
}

// ---- damaged files

class DamagedFiles : public TempFolder {
 protected:
  // Bytes changed, bits flipped, a piece zeroed, cut, doubled or put in: a different one for each seed.
  static std::string damaged(std::string content, unsigned seed) {
    std::mt19937 random(seed);
    const std::string good = content;
    const auto place = [&] { return random() % content.size(); };
    switch (seed % 6) {
      case 0: content.resize(place()); break;
      case 1:
        for (unsigned i = 0; i <= random() % 8; ++i) content[place()] = static_cast<char>(random());
        break;
      case 2:
        for (unsigned i = 0; i <= random() % 4; ++i) content[place()] ^= static_cast<char>(1 << random() % 8);
        break;
      case 3: {
        const std::size_t at = place();
        std::memset(content.data() + at, seed % 12 == 3 ? 0 : 0xFF, std::min<std::size_t>(64, content.size() - at));
        break;
      }
      case 4: content.insert(place(), content.substr(place(), random() % 100)); break;
      default: content.insert(place(), std::string(random() % 20, static_cast<char>(random()))); break;
    }
    return content == good ? content + "x" : content;
  }

  // `read` must end with success or a UserError for every damage; returns how often it refused.
  int refusals(const fs::path& path, unsigned count, const std::function<void()>& read) {
    const std::string good = read_file(path);
    read();
    int refused = 0;
    for (unsigned seed = 0; seed < count; ++seed) {
      write_raw(path, damaged(good, seed));
      try {
        read();
      } catch (const UserError&) {
        ++refused;
      }
    }
    write_raw(path, good);
    return refused;
  }
};

TEST_F(DamagedFiles, pools_rollouts_evaluations_and_metrics_are_refused) {
  const fs::path path = folder_ / "x.h5";
  write_pool(path, example_pool_header(), example_block(0, 4));
  EXPECT_EQ(refusals(path, 300, [&] { read_pool(path); }), 300);
  write_rollouts(path, RolloutStage::learned, {}, example_rollouts(0, 3, RolloutStage::learned));
  EXPECT_EQ(refusals(path, 300, [&] { read_rollouts(path, RolloutStage::learned); }), 300);
  write_eval(path, example_eval());
  EXPECT_EQ(refusals(path, 100, [&] { read_eval(path); }), 100);
  write_metrics_h5(path, {}, std::vector<MetricsRow>{{.step = 1, .values = {{"kl", 0.5}}, .time = {{"idle", {1}}}}});
  EXPECT_EQ(refusals(path, 100, [&] { read_metrics_h5(path); }), 100);
}

TEST_F(DamagedFiles, safetensors_and_their_index_never_crash_the_reader) {
  const fs::path path = folder_ / "model.safetensors";
  std::ofstream(path, std::ios::binary) << read_file(fs::path(VBON_TEST_DATA) / "golden/store/every_dtype.safetensors");
  std::size_t bytes = 0;
  const auto read_all = [&] {
    const SafeTensors file = SafeTensors::open_file(path);
    for (const TensorView& tensor : file.tensors())
      for (const std::byte byte : tensor.bytes) bytes += static_cast<std::size_t>(byte);
  };
  EXPECT_GT(refusals(path, 600, read_all), 300);  // damage within the values is another value
  fs::rename(path, folder_ / "a.safetensors");
  const fs::path index = folder_ / "model.safetensors.index.json";
  write_raw(index, R"({"metadata":{},"weight_map":{"f32":"a.safetensors","i64":"a.safetensors"}})");
  EXPECT_GT(refusals(index, 300, [&] { SafeTensors::open_folder(folder_); }), 200);
}

TEST_F(DamagedFiles, manifests_plans_and_records_never_crash_the_reader) {
  const CheckpointFiles files(folder_ / "checkpoints");
  files.begin(1, std::vector<std::string>{"policy/a", "state/b"});
  write_raw(files.step_folder(1) / "policy/a", "a");
  write_raw(files.step_folder(1) / "state/b", "b");
  Manifest manifest;
  manifest.step = 1;
  manifest.environment = {{"cpu", "x"}};
  files.commit(manifest);
  EXPECT_GT(refusals(files.step_folder(1) / "manifest.json", 400, [&] { verify_checkpoint(files.step_folder(1)); }),
            250);
  const fs::path record = folder_ / "metrics.jsonl";
  {
    MetricsLog log(record, -1);
    for (std::int64_t step = 1; step < 6; ++step)
      log.append({.step = step, .values = {{"reward", 0.5}, {"kl", std::nan("")}}, .time = {{"idle", {0.5, 1}}}});
  }
  EXPECT_GT(refusals(record, 400, [&] { read_metrics(record); }), 100);
  for (unsigned seed = 0; seed < 12; ++seed) {
    write_raw(folder_ / "lock", damaged(R"({"host":"elsewhere","pid":12,"job":"1","started":"x"})", seed));
    EXPECT_NO_THROW(FileLock(folder_ / "lock", {}));
  }
}

}  // namespace
}  // namespace vbon
