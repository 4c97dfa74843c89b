// What a rank is: its place, its roles, and the groups that it talks in. Built once in a command and passed down.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "vbon/comm/collectives.hpp"
#include "vbon/comm/mailbox.hpp"
#include "vbon/comm/mpi.hpp"
#include "vbon/comm/placement.hpp"
#include "vbon/train/phases.hpp"

namespace vbon {

struct RankContext {
  comm::Communicator& world;
  comm::Placement placement;
  comm::Assignment mine;
  at::Device device = at::kCPU;
  int threads = 1;

  std::unique_ptr<comm::Collectives> everyone;  // all ranks, host memory
  std::unique_ptr<comm::Collectives> learners;  // gradients; null on ranks that do not learn
  std::unique_ptr<comm::Collectives>
      publishing;                          // learner root and rollout ranks; null on others, or if that is one rank
  std::unique_ptr<comm::Mailbox> mailbox;  // over all ranks
  Phases phases;

  bool is(comm::Role role) const { return mine.roles.has(role); }
  bool is_root() const { return world.rank() == placement.learner_root(); }  // writes the run's files
  double idle_seconds() const { return world.waiter().idle_seconds(); }
};

// Seconds that a reader looks for a file that another rank has announced: less than that rank would wait for us.
double file_wait_s(const comm::ClusterConfig& cluster);

// Collective over the world: placement by cluster.roles, groups, device, threads (set for tensor operations here).
// `num_chunks` of a step; 0: not known.
RankContext make_rank_context(comm::Communicator& world, const comm::ClusterConfig& cluster, int num_chunks);

// The same where every rank has every role, whatever cluster.roles says: in commands that only sample, score or learn.
RankContext make_uniform_context(comm::Communicator& world, comm::ClusterConfig cluster);

}  // namespace vbon
