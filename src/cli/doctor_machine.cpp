// Program, processor, memory, limits and environment variables.
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>

#include "cli/doctor.hpp"
#include "cli/host.hpp"
#include "vbon/base/version.hpp"
#include "vbon/base/words.hpp"
#include "vbon/model/cuda_library.hpp"
#include "vbon/train/run_inputs.hpp"

extern char** environ;  // NOLINT: POSIX's own name

namespace vbon::cli {
namespace {

constexpr std::int64_t kMiB = 1 << 20, kGiB = 1 << 30;

std::string bytes(std::int64_t n) { return human_bytes(static_cast<std::uint64_t>(std::max<std::int64_t>(0, n))); }

std::string limit_text(rlim_t value) { return value == RLIM_INFINITY ? "unlimited" : fmt::format("{}", value); }

rlimit limit_of(__rlimit_resource which) {
  rlimit limit{};
  ::getrlimit(which, &limit);
  return limit;
}

void check_memory(Findings& f) {
  const HostMemory memory = host_memory();
  const std::string text = fmt::format("{} of memory{}, {} free", bytes(memory.total),
                                       memory.limited ? " (limit of the container)" : "", bytes(memory.available));
  if (memory.available < 2 * kGiB)
    f.warn("memory", text, "little is left: end other programs; `vbon plan -c CONFIG --ranks N` says what a run needs");
  else f.ok("memory", "{}", text);
  struct statvfs shared = {};
  if (::statvfs("/dev/shm", &shared) != 0) {
    f.warn("memory", "/dev/shm is not there: ranks of a node talk through files in TMPDIR",
           "mount a tmpfs on /dev/shm");
    return;
  }
  const auto free = static_cast<std::int64_t>(shared.f_bavail) * static_cast<std::int64_t>(shared.f_frsize);
  if (::access("/dev/shm", W_OK) != 0)
    f.warn("memory", "/dev/shm cannot be written: ranks of a node cannot share memory",
           "chmod 1777 /dev/shm, or OMPI_MCA_btl=self,tcp");
  else if (free < 64 * kMiB)
    f.warn("memory",
           fmt::format("/dev/shm has {} free; ranks of a node share memory there, some MiB each", bytes(free)),
           "give the container more (--shm-size=1g), or set OMPI_MCA_btl_vader_backing_directory to another "
           "memory-backed folder");
  else f.ok("memory", "/dev/shm, where ranks of a node share memory: {} free", bytes(free));
}

bool starts_with_any(std::string_view name, std::initializer_list<std::string_view> prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(), [&](std::string_view p) { return name.starts_with(p); });
}

std::string shortened(std::string text) {
  constexpr std::size_t kMost = 80;
  if (text.size() > kMost) text = text.substr(0, kMost) + "…";
  return text;
}

}  // namespace

void check_program(Findings& f) {
  f.ok("program", "vbon {}, {}", version(),
       has_cuda_build() ? "built with CUDA and NCCL" : "built for CPUs (CUDA is not built in)");
  if (!has_cuda_build() && std::filesystem::exists("/proc/driver/nvidia/version"))
    f.warn("program", "this machine has an NVIDIA driver, and this program was built without CUDA",
           "to use GPUs, build with -DVBON_CUDA=ON (jobs/setup.sh does where it finds the CUDA toolkit)");
}

void check_machine(Findings& f) {
  const HostCores cores = host_cores();
  const std::vector<std::string> sets = instruction_sets();
  const auto has = [&](std::string_view name) { return std::find(sets.begin(), sets.end(), name) != sets.end(); };
  const std::string text =
      fmt::format("{}: {} cores{}, {}", cpu_model(), cores.hardware,
                  cores.allowed < cores.hardware ? fmt::format(" ({} allowed to this process)", cores.allowed) : "",
                  sets.empty() ? "instruction sets not known" : joined(sets, " "));
  if (!sets.empty() && !has("avx2") && !has("asimd") && !has("sve"))
    f.warn("processor", text,
           "without AVX2 products take several times longer; in a virtual machine, pass the host's CPU through");
  else f.ok("processor", "{}", text);
  if (cores.quota > 0 && cores.quota < cores.allowed)
    f.warn("processor",
           fmt::format("the container may use {:.1f} cores' time, and sees {} cores", cores.quota, cores.allowed),
           fmt::format("set cluster.threads so that the ranks at work together have {:.0f} threads",
                       std::max(1.0, cores.quota)));
  check_memory(f);
}

void check_limits(Findings& f) {
  const rlimit files = limit_of(RLIMIT_NOFILE);
  if (files.rlim_cur < 1024)
    f.warn("limits", fmt::format("{} open files at most (ulimit -n)", limit_text(files.rlim_cur)),
           fmt::format("ulimit -n {}",
                       files.rlim_max == RLIM_INFINITY ? "4096" : limit_text(std::min<rlim_t>(files.rlim_max, 4096))));
  else f.ok("limits", "{} open files at most (ulimit -n)", limit_text(files.rlim_cur));
  const rlimit size = limit_of(RLIMIT_FSIZE);
  if (size.rlim_cur == RLIM_INFINITY) f.ok("limits", "files of any size (ulimit -f)");
  else if (size.rlim_cur < static_cast<rlim_t>(64 * kMiB))
    f.bad("limits",
          fmt::format("files of at most {} (ulimit -f): no checkpoint fits",
                      bytes(static_cast<std::int64_t>(size.rlim_cur))),
          "ulimit -f unlimited");
  else
    f.warn("limits", fmt::format("files of at most {} (ulimit -f)", bytes(static_cast<std::int64_t>(size.rlim_cur))),
           "a checkpoint's weights are one file: ulimit -f unlimited");
  if (const rlimit space = limit_of(RLIMIT_AS); space.rlim_cur != RLIM_INFINITY)
    f.warn("limits",
           fmt::format("{} of address space at most (ulimit -v): mapped model files count",
                       bytes(static_cast<std::int64_t>(space.rlim_cur))),
           "ulimit -v unlimited");
  const rlimit core = limit_of(RLIMIT_CORE);
  f.ok("limits", "core files: {} (ulimit -c)", core.rlim_cur == 0 ? "none" : limit_text(core.rlim_cur));
  const rlimit locked = limit_of(RLIMIT_MEMLOCK);
  if (std::filesystem::exists("/sys/class/infiniband") && locked.rlim_cur != RLIM_INFINITY)
    f.warn("limits",
           fmt::format("{} of locked memory at most (ulimit -l), and InfiniBand needs it",
                       bytes(static_cast<std::int64_t>(locked.rlim_cur))),
           "ulimit -l unlimited (in Slurm: the daemon's own limit, PropagateResourceLimitsExcept=MEMLOCK)");
}

std::vector<std::pair<std::string, std::string>> relevant_environment() {
  std::vector<std::pair<std::string, std::string>> found;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string name(text.substr(0, equals));
    // What mpirun itself tells the processes that it starts.
    if (starts_with_any(name, {"OMPI_MCA_orte_", "OMPI_MCA_ess", "OMPI_MCA_initial_", "OMPI_MCA_shmem_RUNTIME"}))
      continue;
    if (starts_with_any(name, {"OMP_", "GOMP_", "KMP_", "MKL_", "OMPI_MCA_", "PMIX_MCA_", "UCX_", "NCCL_", "CUDA_",
                               "CUBLAS_", "HDF5_", "ATEN_", "ONEDNN_", "DNNL_", "TORCH_", "MALLOC_"}) ||
        name == "LD_PRELOAD")
      found.emplace_back(name, std::string(text.substr(equals + 1)));
  }
  std::sort(found.begin(), found.end());
  return found;
}

void check_environment(Findings& f) {
  const auto variables = relevant_environment();
  for (const auto& [name, value] : variables) {
    const std::string text = name + "=" + shortened(value);
    if (name == "OMP_NUM_THREADS" || name == "MKL_NUM_THREADS")
      f.ok("environment", "{} (cluster.threads decides in commands with ranks)", text);
    else if (name == "HDF5_USE_FILE_LOCKING")
      f.ok("environment", "{} (of no effect: files are locked by nobody and never written twice)", text);
    else if (name == "HDF5_DISABLE_VERSION_CHECK")
      f.warn("environment", text, "unset it: a mixture of HDF5 libraries is better found at start");
    else if ((name == "OMP_WAIT_POLICY" && (value == "active" || value == "ACTIVE")) ||
             (name == "KMP_BLOCKTIME" && value == "infinite"))
      f.warn("environment", text + ": idle threads spin and take cores from other ranks", "unset it");
    else if (name == "OMP_PROC_BIND" || name == "GOMP_CPU_AFFINITY" || name == "KMP_AFFINITY")
      f.warn("environment", text + ": every rank pins its threads by itself, perhaps to the same cores",
             "unset it where several ranks share a node");
    else if (name == "ATEN_CPU_CAPABILITY" || name == "ONEDNN_MAX_CPU_ISA" || name == "DNNL_MAX_CPU_ISA" ||
             name == "MKL_ENABLE_INSTRUCTIONS")
      f.warn("environment", text + ": slower kernels than this processor has, and other rounding",
             "unset it unless it is meant");
    else if (name == "LD_PRELOAD")
      f.warn("environment", text, "unset it unless it is meant: it changes every library below");
    else f.ok("environment", "{}", text);
  }
  if (variables.empty()) f.ok("environment", "no variable that changes how ranks compute or talk is set");
}

}  // namespace vbon::cli
