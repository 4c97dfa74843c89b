#include "vbon/train/rank_context.hpp"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/detail/CUDAHooksInterface.h>

#include <algorithm>
#include <cstdint>
#include <thread>

#include "vbon/base/error.hpp"
#include "vbon/base/log.hpp"

namespace vbon {
namespace {

int devices_of_this_machine(comm::DeviceKind kind) {
  if (kind == comm::DeviceKind::cpu) return 0;
  const bool present = at::hasCUDA() && at::detail::getCUDAHooks().deviceCount() > 0;
  require(present || kind != comm::DeviceKind::cuda,
          "cluster.device is cuda, but no CUDA device can be used here (see `vbon doctor`); use cpu or auto");
  return present ? at::detail::getCUDAHooks().deviceCount() : 0;
}

comm::Topology topology_of(const comm::Communicator& world, int devices) {
  comm::Topology topology;
  for (int rank = 0; rank < world.size(); ++rank) topology.node_of_rank.push_back(world.node_of(rank));
  topology.devices_per_node = devices;
  return topology;
}

comm::CollectivesOptions options_of(const comm::ClusterConfig& cluster, int device) {
  comm::CollectivesOptions options;
  options.piece_bytes = static_cast<std::int64_t>(cluster.piece_mib * 1048576.0);
  options.checks = cluster.comm_checks;
  options.device = std::max(0, device);
  return options;
}

}  // namespace

double file_wait_s(const comm::ClusterConfig& cluster) { return std::min(cluster.file_wait_s, cluster.timeout_s / 2); }

RankContext make_rank_context(comm::Communicator& world, const comm::ClusterConfig& cluster, int num_chunks) {
  const int devices = devices_of_this_machine(cluster.device);
  comm::Placement placement = comm::plan(topology_of(world, devices), cluster.roles, num_chunks);
  const comm::Assignment mine = placement.ranks[static_cast<std::size_t>(world.rank())];
  RankContext context{.world = world, .placement = std::move(placement), .mine = mine};
  log::set_root(context.is_root());
  log::set_warns(mine.rollout_index == 0 || mine.scorer_index == 0 || mine.learner_index == 0);
  for (const std::string& note : context.placement.notes) log::info("{}", note);
  if (mine.device >= 0) context.device = at::Device(at::kCUDA, static_cast<at::DeviceIndex>(mine.device));
  const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  context.threads = comm::threads_per_rank(context.placement, cluster, cores);
  at::set_num_threads(context.threads);

  const comm::CollectivesOptions options = options_of(cluster, mine.device);
  context.everyone = comm::make_collectives(world.dup("everyone"), comm::Backend::host, options);
  context.mailbox = std::make_unique<comm::Mailbox>(world.dup("mailbox"));
  const auto group = [&](bool member, const char* name, bool on_device) -> std::unique_ptr<comm::Collectives> {
    auto split = world.split(member ? std::optional<int>(0) : std::nullopt, name);
    if (!split) return nullptr;
    const bool nccl = on_device && mine.device >= 0;
    return comm::make_collectives(std::move(*split), nccl ? comm::Backend::nccl : comm::Backend::host, options);
  };
  context.learners = group(context.is(comm::Role::learner), "learners", true);
  const bool publishes = context.is_root() || context.is(comm::Role::rollout);
  context.publishing = group(publishes, "publishing", true);
  if (context.publishing != nullptr && context.publishing->size() == 1) context.publishing.reset();
  return context;
}

RankContext make_uniform_context(comm::Communicator& world, comm::ClusterConfig cluster) {
  cluster.roles = {.kind = comm::Roles::Kind::all};
  return make_rank_context(world, cluster, 0);
}

}  // namespace vbon
