// The doctor finds what is broken and says so; what is whole it leaves alone.
#include "cli/doctor.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "cli/bounded.hpp"
#include "cli/host.hpp"
#include "unit/cli/model_folder.hpp"
#include "unit/cli/scratch.hpp"
#include "vbon/base/files.hpp"
#include "vbon/store/run_folder.hpp"

namespace vbon::cli {

void PrintTo(const Finding& f, std::ostream* out) { *out << name_of(f.verdict) << " " << f.area << ": " << f.what; }

namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::Contains;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

auto finding(Verdict verdict, const std::string& part) {
  return AllOf(Field(&Finding::verdict, verdict), Field(&Finding::what, HasSubstr(part)));
}

class DoctorConfiguration : public testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_model(reference_);
    scratch_.write("prompts.txt", "One film\nAnother film\n");
    line_.config =
        scratch_.write("config.yaml", "run: {dir: " + (scratch_ / "run").string() + ", seed: 1}\n" +
                                          "model: {reference: " + reference_.string() + "}\n" +
                                          "prompts: {train: " + (scratch_ / "prompts.txt").string() + "}\n" + R"(
reward: {kind: exec, command: [sh, -c, 'while read line; do echo "{\"reward\": 1}"; done'], id: v1}
sampling: {max_new_tokens: 8}
train: {prompts_per_step: 2, samples_per_prompt: 2}
vbon: {N: 4}
ppo: {baseline: rloo}
)");
  }
  std::vector<Finding> findings() {
    Findings found;
    check_configuration(found, load_settings(line_, {}));
    return found.all();
  }

  test::Scratch scratch_;
  fs::path reference_ = scratch_ / "reference";
  CommandLine line_;
};

TEST_F(DoctorConfiguration, FindsNothingWrongWithWhatIsWhole) {
  const std::vector<Finding> found = findings();
  EXPECT_THAT(found, Not(Contains(Field(&Finding::verdict, Verdict::bad))));
  EXPECT_THAT(found, Contains(finding(Verdict::ok, "all tensors in place")));
  EXPECT_THAT(found, Contains(finding(Verdict::ok, "'sh' answers")));
  EXPECT_THAT(found, Contains(finding(Verdict::ok, "2 prompts, the longest of")));
  EXPECT_THAT(found, Contains(finding(Verdict::ok, "a new run starts in it")));
  EXPECT_FALSE(fs::exists(scratch_ / "run"));  // looking makes nothing
}

TEST_F(DoctorConfiguration, BrokenModelFolders) {
  const std::string weights = read_file(reference_ / "model.safetensors"),
                    tokenizer = read_file(reference_ / "tokenizer.json");
  scratch_.write("reference/model.safetensors", weights.substr(0, weights.size() - 100));
  EXPECT_THAT(findings(), Contains(finding(Verdict::bad, "model.safetensors")));
  scratch_.write("reference/model.safetensors", weights);
  scratch_.write("reference/tokenizer.json", "{\"model\": ");
  EXPECT_THAT(findings(), Contains(finding(Verdict::bad, "tokenizer.json")));
  scratch_.write("reference/tokenizer.json", tokenizer);
  scratch_.write("reference/config.json", test::tiny_config(3));
  EXPECT_THAT(findings(), Contains(finding(Verdict::bad, "are missing, the first: model.layers.2.")));
  std::string wider = test::tiny_config();
  wider.replace(wider.find("\"intermediate_size\": 32"), 23, "\"intermediate_size\": 48");
  scratch_.write("reference/config.json", wider);
  EXPECT_THAT(findings(), Contains(finding(Verdict::bad, "has shape [32, 16], but config.json asks for [48, 16]")));
  fs::remove(reference_ / "config.json");
  EXPECT_THAT(findings(), Contains(finding(Verdict::bad, "has no config.json")));
  fs::remove_all(reference_);
  EXPECT_THAT(findings(), Contains(finding(Verdict::bad, "model.reference: ")));
}

TEST_F(DoctorConfiguration, PathsThatAreNoPlainFiles) {
  line_.overrides = {"prompts.train=" + (scratch_ / "nowhere.txt").string()};
  EXPECT_THAT(findings(), Contains(finding(Verdict::bad, "nowhere.txt' is not there")));
  ASSERT_EQ(::mkfifo((scratch_ / "pipe").c_str(), 0600), 0);
  line_.overrides = {"prompts.train=" + (scratch_ / "pipe").string()};  // to open it would wait for ever
  EXPECT_THAT(findings(), Contains(finding(Verdict::bad, "is no plain file")));
  line_.overrides = {"prompts.train=" + scratch_.write("bad.jsonl", "{\"prompt\": 3}\n").string()};
  EXPECT_THAT(findings(), Contains(finding(Verdict::bad, "bad.jsonl")));
  line_.overrides = {"prompts.eval=" + (scratch_ / "prompts.txt").string()};
  EXPECT_THAT(findings(), Contains(finding(Verdict::warn, "2 of 2 evaluation prompts are training prompts")));
}

TEST_F(DoctorConfiguration, ValuesThatDoNotFit) {
  line_.overrides = {"sampling.max_new_tokens=64", "model.start_token=1104", "vbon.N=0.5"};
  const std::vector<Finding> found = findings();
  EXPECT_THAT(found, Contains(finding(Verdict::bad, "64 positions, and sampling.max_new_tokens is 64")));
  EXPECT_THAT(found, Contains(finding(Verdict::bad, "model.start_token is 1104")));
  EXPECT_THAT(found, Contains(AllOf(Field(&Finding::area, "configuration"), Field(&Finding::verdict, Verdict::bad))));
  line_.overrides = {"train.prompts_per_step=3"};
  EXPECT_THAT(findings(), Contains(finding(Verdict::bad, "but there are 2 prompts")));
}

TEST_F(DoctorConfiguration, Rewards) {
  line_.overrides = {"reward.command=[no-such-program]"};
  EXPECT_THAT(findings(), Contains(finding(Verdict::bad, "'no-such-program' is no program here")));
  line_.overrides = {"reward.command=[sh, -c, 'exit 3']"};
  EXPECT_THAT(findings(), Contains(finding(Verdict::bad, "reward.command: ")));
  const std::string classifier = std::string(VBON_TEST_DATA) + "/golden/reward/classifier";
  line_.overrides = {"reward.kind=classifier", "reward.command=[]", "reward.path=" + classifier};
  EXPECT_THAT(findings(), Contains(finding(Verdict::ok, "a classifier that loads")));
  line_.overrides.back() = "reward.path=" + reference_.string();  // of itself no reward
  EXPECT_THAT(findings(), Contains(finding(Verdict::bad, "language model without a classification head")));
  line_.overrides.back() = "reward.path=" + (scratch_ / "later").string();
  EXPECT_THAT(findings(), Contains(finding(Verdict::bad, "later' is not there yet")));
  line_.overrides.push_back("reward.train.labels=" +
                            scratch_.write("labels.jsonl", "{\"text\": \"a\", \"label\": 1}\n").string());
  EXPECT_THAT(findings(), Contains(finding(Verdict::warn, "later' is not there yet")));
}

TEST_F(DoctorConfiguration, Pools) {
  line_.overrides = {"pool.path=" + (scratch_ / "pool.h5").string()};
  EXPECT_THAT(findings(), Contains(finding(Verdict::warn, "pool.h5' is not there yet")));
  scratch_.write("pool.h5", "no HDF5");
  EXPECT_THAT(findings(), Contains(AllOf(Field(&Finding::area, "pool"), Field(&Finding::verdict, Verdict::bad))));
}

TEST_F(DoctorConfiguration, RunFolders) {
  const Loaded loaded = load_settings(line_, {});
  {
    const RunFolder run = RunFolder::open(
        scratch_ / "run", {.config = loaded.text.resolved_yaml, .changed_keys = loaded.text.changed_keys});
    EXPECT_THAT(findings(), Contains(finding(Verdict::warn, fmt::format("is in use: process {}", ::getpid()))));
  }
  EXPECT_THAT(findings(), Contains(finding(Verdict::ok, "no checkpoint yet")));
  line_.overrides = {"train.steps=7"};
  EXPECT_THAT(findings(), Contains(finding(Verdict::bad, "train.steps")));
  line_.overrides = {};
  RunFolder::open(scratch_ / "run", {.config = loaded.text.resolved_yaml, .changed_keys = loaded.text.changed_keys})
      .finish("{}");
  EXPECT_THAT(findings(), Contains(finding(Verdict::warn, "holds a finished run")));
  line_.overrides = {"run.dir=" + scratch_.write("foreign/file", "x").parent_path().string()};
  EXPECT_THAT(findings(), Contains(finding(Verdict::bad, "no run of this program")));
}

TEST_F(DoctorConfiguration, TheCommandEndsInTwoWhenSomethingIsToMend) {
  const auto run = [&] {
    testing::internal::CaptureStdout();
    const ExitCode code = run_doctor_command(line_);
    return std::pair(code, testing::internal::GetCapturedStdout());
  };
  line_.json = true;
  const auto [good, text] = run();
  const nlohmann::json report = nlohmann::json::parse(text);
  std::set<std::string> areas;
  for (const auto& f : report.at("findings")) areas.insert(f.at("area").get<std::string>());
  for (const char* area : {"program", "processor", "memory", "MPI", "LibTorch", "HDF5", "CUDA", "disk", "scratch",
                           "limits", "environment", "model", "run"})
    EXPECT_TRUE(areas.contains(area)) << area;
  EXPECT_EQ(good, ExitCode::ok) << text;
  fs::remove(reference_ / "tokenizer.json");
  EXPECT_EQ(run().first, ExitCode::user);
  line_.json = false;
  line_.overrides = {"modle.base=x"};
  const auto [bad, listing] = run();
  EXPECT_EQ(bad, ExitCode::user);
  EXPECT_THAT(listing, AllOf(HasSubstr("bad   configuration"), HasSubstr("modle"), HasSubstr("-> ")));
}

TEST(Doctor, LibrariesWorkHere) {
  Findings found;
  check_mpi(found);
  check_torch(found);
  check_hdf5(found);
  EXPECT_EQ(found.count(Verdict::bad), 0u) << findings_text(found);
  EXPECT_THAT(found.all(), Contains(finding(Verdict::ok, "starts, meets and ends")));
  EXPECT_THAT(found.all(), Contains(finding(Verdict::ok, "loads and computes")));
  EXPECT_THAT(found.all(), Contains(finding(Verdict::ok, "serial flavour")));
}

TEST(Doctor, DisksAreTriedAndLeftAsTheyWere) {
  const test::Scratch scratch;
  Findings found;
  check_disk(found, "disk", scratch / "not/yet/there");
  EXPECT_THAT(found.all(), Contains(finding(Verdict::ok, "a renamed file is seen at once")));
  EXPECT_TRUE(fs::is_empty(scratch / ".")) << "the probe's files are gone, and no folder was made";
}

TEST(Doctor, FoldersThatCannotBeWritten) {
  Findings found;
  check_disk(found, "disk", "/proc/vbon");  // not even root can
  EXPECT_THAT(found.all(),
              Contains(AllOf(Field(&Finding::verdict, Verdict::bad), Field(&Finding::remedy, Not(IsEmpty())))));
}

TEST(Doctor, SmallFileLimits) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{1 << 20, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  Findings found;
  check_limits(found);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_THAT(found.all(), Contains(finding(Verdict::bad, "files of at most 1.0 MiB")));
}

TEST(Doctor, VariablesThatSlowRanksDown) {
  ::setenv("OMP_WAIT_POLICY", "active", 1);
  ::setenv("OMPI_MCA_btl", "self,tcp", 1);
  ::setenv("OMPI_MCA_orte_num_nodes", "1", 1);
  Findings found;
  check_environment(found);
  for (const char* name : {"OMP_WAIT_POLICY", "OMPI_MCA_btl", "OMPI_MCA_orte_num_nodes"}) ::unsetenv(name);
  EXPECT_THAT(found.all(), Contains(finding(Verdict::warn, "OMP_WAIT_POLICY=active")));
  EXPECT_THAT(found.all(), Contains(finding(Verdict::ok, "OMPI_MCA_btl=self,tcp")));
  EXPECT_THAT(found.all(), Not(Contains(finding(Verdict::ok, "orte_num_nodes"))));
}

TEST(Bounded, ChildrenThatEndHangAndDie) {
  const ChildResult good = run_in_child(10, [] {
    fmt::print("what libraries print is no result\n");
    std::fflush(stdout);
    return std::string(200'000, 'x');
  });
  EXPECT_TRUE(good.ended);
  EXPECT_EQ(good.output, std::string(200'000, 'x'));
  const ChildResult thrown = run_in_child(10, []() -> std::string { throw UserError("no such thing"); });
  EXPECT_FALSE(thrown.ended);
  EXPECT_THAT(thrown.errors, HasSubstr("no such thing"));
  const auto start = std::chrono::steady_clock::now();
  const ChildResult hung = run_in_child(0.3, [] {
    std::this_thread::sleep_for(std::chrono::seconds(60));
    return std::string();
  });
  EXPECT_TRUE(hung.timed_out);
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 10.0);
  const ChildResult killed = run_in_child(10, []() -> std::string { std::abort(); });
  EXPECT_EQ(killed.status, -1);
}

TEST(Bounded, Programs) {
  EXPECT_EQ(run_program(10, {"sh", "-c", "echo out; echo err >&2"}).output, "out\n");
  EXPECT_EQ(run_program(10, {"sh", "-c", "exit 5"}).status, 5);
  EXPECT_FALSE(run_program(10, {"no-such-program"}).ended);
  // A grandchild that keeps the pipe open is no reason to wait.
  EXPECT_TRUE(run_program(0.3, {"sh", "-c", "sleep 60 & sleep 60"}).timed_out);
  EXPECT_THAT(find_program("sh"), HasSubstr("/sh"));
  EXPECT_EQ(find_program("no-such-program"), "");
}

TEST(Bounded, ThreadsAreGivenUpOn) {
  EXPECT_EQ(within(10.0, [] { return 3; }), 3);
  EXPECT_EQ(within(0.05,
                   [] {
                     std::this_thread::sleep_for(std::chrono::milliseconds(400));
                     return 3;
                   }),
            std::nullopt);
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
}

TEST(Host, DescribesThisMachine) {
  EXPECT_GT(host_memory().total, 1 << 28);
  EXPECT_GT(host_memory().available, 0);
  EXPECT_LE(host_memory().available, host_memory().total);
  EXPECT_GE(host_cores().hardware, host_cores().allowed);
  EXPECT_GE(host_cores().allowed, 1);
  EXPECT_FALSE(instruction_sets().empty());
  EXPECT_GT(resident_bytes(), 1 << 20);
}

}  // namespace
}  // namespace vbon::cli
