// MPI as this program uses it: one runtime in main(), communicators that own what they name. mpi.h stays in src/comm.
//
// Ranks never spin: whatever can take long is nonblocking MPI polled by the Waiter. A Communicator may also be local
// (one rank, no MPI at all), so single-process code and tests need no runtime.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "vbon/comm/wait.hpp"

namespace vbon::comm {

class Communicator {
 public:
  struct State;

  static Communicator local();  // rank 0 of 1, without MPI

  explicit Communicator(std::unique_ptr<State> state);
  ~Communicator();
  Communicator(Communicator&&) noexcept;
  Communicator& operator=(Communicator&&) noexcept;

  int rank() const;
  int size() const;
  bool is_local() const;            // made by local()
  const std::string& name() const;  // of the group, for messages

  // Nodes: ranks that share memory. Numbered from 0 in the order of their first ranks.
  int node() const;
  int node_of(int rank) const;
  int num_nodes() const;
  int node_rank() const;  // among this communicator's ranks on this node
  int node_size() const;
  const std::string& host() const;
  const std::string& host_of(int rank) const;
  int world_rank_of(int rank) const;
  std::string place_of(int rank) const;  // "rank 3 on node7", by the rank in the world

  // Collective over this communicator. Traffic of the copy never mixes with the original's.
  Communicator dup(const std::string& name) const;
  // One group a colour, ordered by this communicator's ranks; nullopt on ranks without a colour.
  std::optional<Communicator> split(std::optional<int> colour, const std::string& name) const;

  Waiter& waiter() const;  // outlives the communicator
  State& state() const { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

// MPI from construction to destruction. Works under mpirun, srun, and for a program started by itself (one rank).
// Finalises only when no exception is passing: finalising while unwinding would wait for peers that wait for us.
class MpiRuntime {
 public:
  MpiRuntime(int& argc, char**& argv, WaitOptions options = {});
  ~MpiRuntime();
  MpiRuntime(const MpiRuntime&) = delete;
  MpiRuntime& operator=(const MpiRuntime&) = delete;

  Communicator& world() { return *world_; }
  Waiter& waiter() { return *waiter_; }

  // Logs the message with this rank and ends every rank of the job; the launcher returns `code`.
  [[noreturn]] void abort(int code, const std::string& message);
  // Of an error that another rank tells: gives it time to end the job first.
  [[noreturn]] void abort_behind(int code);

 private:
  // Where a process without a launcher lets Open MPI keep its files; removed at the end.
  struct SessionFolder {
    SessionFolder();
    ~SessionFolder() { remove(); }
    void remove() const;
    std::string path;  // empty: MPI's own choice
  };

  int exceptions_at_start_ = 0;
  SessionFolder session_;
  std::unique_ptr<Waiter> waiter_;
  std::unique_ptr<Communicator> world_;
};

std::string mpi_library_version();  // "Open MPI v4.1.4, …", first line; needs no runtime

}  // namespace vbon::comm
