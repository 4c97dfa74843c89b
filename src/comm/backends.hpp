// The backends by their makers; which file defines make_nccl_collectives depends on VBON_CUDA.
#pragma once

#include <memory>

#include "vbon/comm/collectives.hpp"

namespace vbon::comm {

std::unique_ptr<Collectives> make_mpi_collectives(Communicator group, CollectivesOptions options);
std::unique_ptr<Collectives> make_nccl_collectives(Communicator group, CollectivesOptions options);

}  // namespace vbon::comm
