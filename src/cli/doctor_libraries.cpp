// LibTorch, MPI, HDF5, CUDA and NCCL: versions, and whether they work.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "cli/bounded.hpp"
#include "cli/doctor.hpp"
#include "cli/host.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/words.hpp"
#include "vbon/comm/doctor.hpp"
#include "vbon/store/hdf5.hpp"
#include "vbon/train/machine.hpp"

namespace vbon::cli {
namespace {

constexpr double kProbeTimeout = 20;

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

int number_of(const char* name) { return std::atoi(variable(name).c_str()); }

// The end of what a child wrote to standard error, on one line.
std::string last_words(const ChildResult& result) {
  std::string text;
  for (const std::string& line : split(result.errors, '\n'))
    if (!trimmed(line).empty() && line.find("-----") == std::string::npos)
      text += (text.empty() ? "" : " ") + std::string(trimmed(line));
  constexpr std::size_t kMost = 400;
  return text.size() > kMost ? "…" + text.substr(text.size() - kMost) : text;
}

struct Launch {
  std::string by;  // "mpirun", "srun", "" by itself
  int ranks = 1;
};

Launch launch() {
  if (const int size = number_of("OMPI_COMM_WORLD_SIZE"); size > 0) return {"mpirun", size};
  if (!variable("SLURM_STEP_ID").empty() && !variable("SLURM_PROCID").empty())
    return {"srun", std::max(1, number_of("SLURM_STEP_NUM_TASKS"))};
  return {};
}

void check_mpirun(Findings& f, const std::string& library) {
  const std::string program = find_program("mpirun");
  if (program.empty()) {
    f.warn("MPI", "mpirun is not in PATH",
           "install openmpi-bin, load your cluster's MPI module, or start ranks by srun");
    return;
  }
  const ChildResult said = run_program(5, {program, "--version"});
  const std::string first = said.output.substr(0, said.output.find('\n'));
  const std::size_t space = first.rfind(' ');
  const std::string version = space == std::string::npos ? "" : first.substr(space + 1);
  if (!said.ended || version.empty())
    f.warn("MPI", fmt::format("{} does not say its version{}", program, said.timed_out ? " within 5 s" : ""),
           "look at `mpirun --version`");
  else if (first.find("Open MPI") != std::string::npos && library.find("Open MPI") != std::string::npos &&
           library.find(version) == std::string::npos)
    f.bad("MPI",
          fmt::format("{} is of Open MPI {}, and this program uses {}: ranks would not find each other", program,
                      version, library),
          "put the mpirun of the library in use first in PATH (one MPI module at a time)");
  else f.ok("MPI", "{}: {}", program, first);
  if (::geteuid() == 0 && launch().by.empty() && variable("OMPI_ALLOW_RUN_AS_ROOT").empty() &&
      first.find("Open MPI") != std::string::npos)
    f.warn("MPI", "you are root, and mpirun refuses root",
           "start ranks by jobs/mpirun.sh, or set OMPI_ALLOW_RUN_AS_ROOT=1 and OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1");
}

void check_srun(Findings& f) {
  if (find_program("srun").empty()) return;
  const ChildResult said = run_program(10, {"srun", "--mpi=list"});
  const std::string list = said.output + said.errors;
  if (said.timed_out)
    f.warn("Slurm", "`srun --mpi=list` gives no answer within 10 s", "see whether the controller is up: sinfo");
  else if (list.find("pmix") == std::string::npos)
    f.warn("Slurm", fmt::format("srun has no pmix plugin ({})", joined(split(std::string(trimmed(list)), '\n'), " ")),
           "start ranks by mpirun inside the allocation, or ask for Slurm's PMIx plugin");
  else f.ok("Slurm", "srun has the pmix plugin: srun --mpi=pmix");
}

// Ranks that their launcher counts must be ranks of MPI.
void compare_launch(Findings& f, const Launch& launched, const comm::MpiFacts& facts) {
  if (launched.by.empty()) {
    f.ok("MPI", "started by itself: one rank; `mpirun -n N` or `srun --mpi=pmix -n N` start more");
  } else if (launched.ranks > 1 && facts.size == 1) {
    f.bad("MPI",
          fmt::format("{} started {} processes, but to MPI each of them is alone: they would all do the same work",
                      launched.by, launched.ranks),
          launched.by == "srun"
              ? "srun --mpi=pmix (`srun --mpi=list` shows what there is), or mpirun inside the allocation"
              : "use the mpirun of the MPI library named above");
  } else {
    f.ok("MPI", "started by {}: {} on {}", launched.by, counted(facts.size, "rank"), counted(facts.num_nodes, "node"));
  }
}

comm::MpiFacts facts_of(const std::string& text) {
  const nlohmann::json json = nlohmann::json::parse(text);
  return {.size = json.at("size"),
          .num_nodes = json.at("nodes"),
          .thread_level = json.at("level"),
          .libraries = json.at("libraries")};
}

}  // namespace

void check_mpi(Findings& f) {
  const std::string library = comm::mpi_library_version();
  const ChildResult probe = run_in_child(kProbeTimeout + 5, [] {
    const comm::MpiFacts facts = comm::probe_mpi(kProbeTimeout);
    return nlohmann::json{
        {"size", facts.size}, {"nodes", facts.num_nodes}, {"level", facts.thread_level}, {"libraries", facts.libraries}}
        .dump();
  });
  if (!log::is_root()) return;
  if (!probe.ended) {
    f.bad("MPI", fmt::format("{} does not start{}: {}", library, probe.timed_out ? " in time" : "", last_words(probe)),
          "look at TMPDIR, /dev/shm and OMPI_MCA_* below; by itself: mpirun -n 2 hostname");
  } else {
    const comm::MpiFacts facts = facts_of(probe.output);
    const bool enough = facts.thread_level == "serialized" || facts.thread_level == "multiple";
    if (enough)
      f.ok("MPI", "{}: starts, meets and ends; threads {} (serialized is needed)", library, facts.thread_level);
    else
      f.bad("MPI", fmt::format("{} gives threads {} only; serialized is needed", library, facts.thread_level),
            "use an MPI library with thread support");
    const Launch launched = launch();
    compare_launch(f, launched, facts);
    if (!facts.libraries.empty()) f.ok("MPI", "PMIx: {}", joined(facts.libraries));
    else if (!launched.by.empty())
      f.warn("MPI", "no PMIx library is in use", "fine where ranks above are counted rightly");
    else f.ok("MPI", "PMIx: not loaded by a process started by itself");
  }
  check_mpirun(f, library);
  check_srun(f);
}

void check_torch(Findings& f) {
  const TorchFacts facts = torch_facts();
  if (!facts.failure.empty() || !(facts.worst_error < 1e-3)) {
    f.bad("LibTorch",
          facts.failure.empty()
              ? fmt::format("LibTorch {} computes wrongly: a product is off by {}", facts.version, facts.worst_error)
              : fmt::format("LibTorch {} fails: {}", facts.version, facts.failure),
          "run jobs/setup.sh again, or name another LibTorch (-DVBON_LIBTORCH=)");
    return;
  }
  f.ok("LibTorch", "{}: loads and computes (off by {:.0e} at most), kernels {}, {} threads", facts.version,
       facts.worst_error, facts.cpu_capability, facts.threads);
  const auto short_version = [](const std::string& text) {
    return text.substr(0, std::min(text.find(" for "), text.find(" (Git")));
  };
  if (facts.mkl.empty() && facts.onednn.empty())
    f.warn("LibTorch", "neither MKL nor oneDNN is built in: products are slow",
           "use the LibTorch that jobs/setup.sh installs");
  else
    f.ok("LibTorch", "{}{}{}", facts.mkl.empty() ? "no MKL" : short_version(facts.mkl),
         facts.onednn.empty() ? "" : ", ", short_version(facts.onednn));
}

void check_hdf5(Findings& f) {
  const std::string flavour =
      fmt::format("HDF5 {}: {}, {}", hdf5_version(), hdf5_is_parallel() ? "parallel flavour" : "serial flavour",
                  hdf5_is_thread_safe() ? "thread-safe" : "not thread-safe");
  if (hdf5_is_parallel())
    f.bad("HDF5", flavour + "; the parallel one brings its own MPI",
          "build with the serial flavour (libhdf5-dev, HDF5_ROOT)");
  else if (!hdf5_is_thread_safe())
    f.warn("HDF5", flavour, "fine for one thread that writes; Debian's libhdf5-dev is thread-safe");
  else f.ok("HDF5", "{}; no locks are taken: files are written in memory and committed by rename", flavour);
}

void check_cuda(Findings& f, bool needed) {
  const ChildResult probe = run_in_child(kProbeTimeout, [] {
    const comm::CudaFacts facts = comm::cuda_facts();
    nlohmann::json devices = nlohmann::json::array();
    for (const comm::CudaDevice& d : facts.devices)
      devices.push_back({{"name", d.name}, {"bytes", d.bytes}, {"major", d.major}, {"minor", d.minor}});
    return nlohmann::json{{"built", facts.built},   {"nccl", facts.nccl},       {"runtime", facts.runtime},
                          {"driver", facts.driver}, {"problem", facts.problem}, {"devices", devices}}
        .dump();
  });
  const auto unusable = [&](const std::string& what, const std::string& remedy) {
    if (needed) f.bad("CUDA", what + ", and cluster.device is cuda", remedy);
    else f.ok("CUDA", "{}; work is done on CPUs", what);
  };
  if (!probe.ended) {
    f.bad(
        "CUDA",
        fmt::format("asking for devices {}: {}", probe.timed_out ? "takes more than 20 s" : "fails", last_words(probe)),
        "see whether nvidia-smi answers; cluster.device: cpu works without");
    return;
  }
  const nlohmann::json facts = nlohmann::json::parse(probe.output);
  if (!facts.at("built").get<bool>())
    return unusable("not built in", "build with -DVBON_CUDA=ON, or use cluster.device: cpu or auto");
  const std::string driver = facts.at("driver"), problem = facts.at("problem");
  const std::string versions =
      fmt::format("CUDA {}, NCCL {}, {}", facts.at("runtime").get<std::string>(), facts.at("nccl").get<std::string>(),
                  driver.empty() ? "no driver" : "driver for CUDA " + driver);
  if (facts.at("devices").empty())
    return unusable(fmt::format("{}: no device ({})", versions, problem.empty() ? "none found" : problem),
                    "a driver of version 580 or newer and a visible GPU are needed (nvidia-smi, CUDA_VISIBLE_DEVICES)");
  f.ok("CUDA", "{}", versions);
  int index = 0;
  for (const nlohmann::json& device : facts.at("devices")) {
    const std::string text =
        fmt::format("device {}: {}, {}, compute capability {}.{}", index++, device.at("name").get<std::string>(),
                    human_bytes(device.at("bytes").get<std::uint64_t>()), device.at("major").get<int>(),
                    device.at("minor").get<int>());
    if (device.at("major").get<int>() * 10 + device.at("minor").get<int>() < 75)
      f.bad("CUDA", text + ": too old for CUDA 13", "use a newer GPU, or cluster.device: cpu");
    else f.ok("CUDA", "{}", text);
  }
  if (variable("CUBLAS_WORKSPACE_CONFIG").empty())
    f.warn("CUDA", "CUBLAS_WORKSPACE_CONFIG is not set: products on GPUs may differ from run to run",
           "for bit-exact resume on GPUs: export CUBLAS_WORKSPACE_CONFIG=:4096:8");
}

}  // namespace vbon::cli
