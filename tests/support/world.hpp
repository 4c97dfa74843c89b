// The ranks that a test of the comm layer runs on: those of mpirun (mpi_main.cpp), or one rank without MPI
// (local_world.cpp). The same test sources are linked with either.
#pragma once

#include "vbon/comm/mpi.hpp"

namespace vbon::test {

comm::Communicator& world();

}  // namespace vbon::test
