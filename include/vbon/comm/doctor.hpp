// What `vbon doctor` and `vbon plan` ask of MPI, NCCL and CUDA, as plain values: the headers of those stay in this
// layer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vbon::comm {

struct MpiFacts {
  int rank = 0, size = 1, num_nodes = 1;
  std::string thread_level;            // that MPI gives: "serialized" …
  std::vector<std::string> libraries;  // of PMIx that MPI loaded: how ranks find each other under mpirun and srun
};
// Starts MPI, meets all ranks in a barrier, ends MPI: once a process, so in a child that ends then. EnvironmentError.
MpiFacts probe_mpi(double timeout_s);

struct CudaDevice {
  std::string name;
  std::uint64_t bytes = 0;   // of memory
  int major = 0, minor = 0;  // compute capability
};
struct CudaFacts {
  bool built = false;                 // in this program
  std::string nccl, runtime, driver;  // versions ("13.0" for CUDA); driver "": none
  std::string problem;                // why no device can be used; "": they can
  std::vector<CudaDevice> devices;
};
CudaFacts cuda_facts();

}  // namespace vbon::comm
