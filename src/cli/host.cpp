#include "cli/host.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

namespace vbon::cli {
namespace {

// The number after `key` in a file of "Key:   123 kB" lines, in bytes; 0: not there.
std::int64_t kilobytes(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key)) return std::stoll(line.substr(key.size())) * 1024;
  return 0;
}

std::int64_t number_in(const char* path) {
  std::int64_t value = 0;
  std::ifstream file(path);
  return file >> value ? value : 0;  // "max": no number
}

}  // namespace

HostMemory host_memory() {
  HostMemory memory{.total = kilobytes("/proc/meminfo", "MemTotal:"),
                    .available = kilobytes("/proc/meminfo", "MemAvailable:")};
  struct Group {
    const char *limit, *used;
  };
  for (const Group& group :
       {Group{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
        Group{"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"}}) {
    const std::int64_t limit = number_in(group.limit);
    if (limit <= 0 || limit >= memory.total) continue;
    memory.total = limit;
    memory.available = std::min(memory.available, std::max<std::int64_t>(0, limit - number_in(group.used)));
    memory.limited = true;
  }
  return memory;
}

HostCores host_cores() {
  HostCores cores;
  cores.hardware = static_cast<int>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
  cores.allowed = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof(set), &set) == 0) cores.allowed = std::max(1, CPU_COUNT(&set));
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  double quota = 0, period = 0;
  if (file >> quota >> period && period > 0) cores.quota = quota / period;
  return cores;
}

std::vector<std::string> instruction_sets() {
  std::ifstream info("/proc/cpuinfo");
  std::set<std::string> flags;
  for (std::string line; std::getline(info, line) && flags.empty();) {
    if (!line.starts_with("flags") && !line.starts_with("Features")) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    for (std::string word; words >> word;) flags.insert(word);
  }
  std::vector<std::string> found;
  for (const char* name : {"sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve"})
    if (flags.contains(name)) found.emplace_back(name);
  return found;
}

std::int64_t resident_bytes() { return kilobytes("/proc/self/status", "VmRSS:"); }

}  // namespace vbon::cli
