#include "vbon/comm/doctor.hpp"

#include <algorithm>
#include <fstream>

#include "comm/mpi_api.hpp"

namespace vbon::comm {
namespace {

std::string thread_level_name(int level) {
  switch (level) {
    case MPI_THREAD_SINGLE: return "single";
    case MPI_THREAD_FUNNELED: return "funneled";
    case MPI_THREAD_SERIALIZED: return "serialized";
    default: return "multiple";
  }
}

// Names of the files mapped into this process that have to do with PMIx.
std::vector<std::string> pmix_libraries() {
  std::vector<std::string> names;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const std::size_t slash = line.rfind('/');
    if (slash == std::string::npos) continue;
    std::string name = line.substr(slash + 1);
    const bool library = name.find("pmix") != std::string::npos && name.find(".so") != std::string::npos;
    if (library && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(std::move(name));
  }
  return names;
}

}  // namespace

MpiFacts probe_mpi(double timeout_s) {
  std::string name = "vbon";
  char* words[] = {name.data(), nullptr};
  int argc = 1;
  char** argv = words;
  MpiRuntime mpi(argc, argv, {.timeout_s = timeout_s});
  int level = MPI_THREAD_SINGLE;
  VBON_MPI(MPI_Query_thread, &level);
  return {.rank = mpi.world().rank(),
          .size = mpi.world().size(),
          .num_nodes = mpi.world().num_nodes(),
          .thread_level = thread_level_name(level),
          .libraries = pmix_libraries()};
}

}  // namespace vbon::comm
