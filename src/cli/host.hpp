// This machine as the kernel describes it: memory, cores, instruction sets, and what a container may use of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vbon::cli {

struct HostMemory {
  std::int64_t total = 0;      // bytes; of the container where that is less
  std::int64_t available = 0;  // now
  bool limited = false;        // by the container (cgroup)
};
HostMemory host_memory();

struct HostCores {
  int hardware = 1;  // threads of the machine
  int allowed = 1;   // that this process may run on
  double quota = 0;  // cores' worth of time that the container gives; 0: no limit
};
HostCores host_cores();

// Of those that matter here: "avx2", "fma", "avx512f", "amx_bf16" …; in the order of what they add.
std::vector<std::string> instruction_sets();

std::int64_t resident_bytes();  // of this process

}  // namespace vbon::cli
