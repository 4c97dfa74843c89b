// Stands in for nccl_collectives.cpp and cuda_facts.cpp in builds without CUDA.
#include "comm/backends.hpp"
#include "vbon/base/error.hpp"
#include "vbon/comm/doctor.hpp"

namespace vbon::comm {

std::unique_ptr<Collectives> make_nccl_collectives(Communicator, CollectivesOptions) {
  throw UserError(
      "this program was built without CUDA, so it has no NCCL collectives: use cluster.device: cpu, or build with "
      "-DVBON_CUDA=ON");
}

CudaFacts cuda_facts() { return {}; }

}  // namespace vbon::comm
