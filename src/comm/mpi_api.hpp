// The one door to mpi.h: checked calls and the communicator's state.
#pragma once

#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <memory>
#include <string>
#include <vector>

#include "vbon/comm/mpi.hpp"

namespace vbon::comm {

// EnvironmentError naming the function, or InternalError where the code says that ranks disagree about a message's
// size.
[[noreturn]] void throw_mpi_error(const char* function, int code);

#define VBON_MPI(function, ...)                                                             \
  do {                                                                                      \
    if (const int vbon_code = function(__VA_ARGS__); vbon_code != MPI_SUCCESS) [[unlikely]] \
      ::vbon::comm::throw_mpi_error(#function, vbon_code);                                  \
  } while (false)

struct Peer {
  char host[64] = {};
  int world_rank = 0;
  int node_leader = 0;  // world rank of the first rank on the same node
};

struct Communicator::State {
  MPI_Comm comm = MPI_COMM_NULL;  // MPI_COMM_NULL: local, or a null state after a move
  bool owned = false;
  int rank = 0;
  int size = 1;
  std::string name;
  std::vector<std::string> hosts;  // a rank
  std::vector<int> world_ranks;
  std::vector<int> node_leaders;
  std::vector<int> nodes;
  Waiter* waiter = nullptr;
  std::unique_ptr<Waiter> own_waiter;  // of a local communicator

  ~State();
};

// A single request, waited for asleep.
void wait_for_request(MPI_Request& request, Waiter& waiter, const std::string& description);

}  // namespace vbon::comm
