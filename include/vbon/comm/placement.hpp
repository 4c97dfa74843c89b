// Which rank does what: roles, their order and devices, as a pure function of sizes and configuration. No MPI here.
//
// Ranks are dealt in the order rollout, scorer, learner: {rollout: 2, scorer: 1, learner: 1} gives ranks 0-1, 2 and 3.
// Where scorer is 0 the rollout ranks score what they sampled.
//
// `auto`: one rank has all roles; of two, the first samples and scores, the second learns; three have one each. From
// four: scorers = max(1, ranks / 8): a reward model reads a response once, which costs far less than sampling it;
// learners = two fifths of the other ranks, rounded down, at least one, at most the number of chunks and a GPU each;
// the rest samples.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vbon/base/fields.hpp"

namespace vbon::comm {

enum class Role : std::uint8_t { rollout = 1, scorer = 2, learner = 4 };
std::string_view name_of(Role role);

struct RoleSet {
  std::uint8_t bits = 0;
  bool has(Role role) const { return (bits & static_cast<std::uint8_t>(role)) != 0; }
  RoleSet with(Role role) const { return {static_cast<std::uint8_t>(bits | static_cast<std::uint8_t>(role))}; }
  bool operator==(const RoleSet&) const = default;
  std::string text() const;  // "rollout+scorer"
};

// cluster.roles: auto, all, or numbers of ranks: "{rollout: 2, scorer: 1, learner: 1}", "rollout=2,scorer=1,learner=1".
struct Roles {
  enum class Kind : std::uint8_t { automatic, all, numbers };
  Kind kind = Kind::automatic;
  int rollout = 0, scorer = 0, learner = 0;  // numbers only
  static constexpr std::string_view kSyntax = "auto | all | {rollout: R, scorer: S, learner: L}";
  static Roles parse(std::string_view text);  // UserError
  std::string text() const;
  bool operator==(const Roles&) const = default;
};

enum class DeviceKind : std::uint8_t { automatic, cpu, cuda };
std::span<const std::pair<DeviceKind, std::string_view>> enum_names(DeviceKind);

struct ClusterConfig {
  Roles roles;
  int lag = 0;
  double timeout_s = 600.0;
  double init_timeout_s = 1800.0;
  double file_wait_s = 60.0;
  bool comm_checks = false;
  double piece_mib = 2.0;
  double bucket_mib = 25.0;
  bool shard_optimizer = false;
  int threads = 0;
  DeviceKind device = DeviceKind::automatic;
  int ranks_per_node = 0;
  int devices_per_node = -1;

  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.roles, {.name = "roles",
                .help = "who does what: auto, all (every rank everything), or {rollout: R, scorer: S, learner: L}"});
    v(c.lag, {.name = "lag", .help = "0: on-policy; 1: sample step k+1 while step k is learned", .unit = "steps"});
    v(c.timeout_s,
      {.name = "timeout_s", .help = "a rank that waits this long without any progress ends the run", .unit = "s"});
    v(c.init_timeout_s,
      {.name = "init_timeout_s", .help = "the same until the first step is done (models load)", .unit = "s"});
    v(c.file_wait_s,
      {.name = "file_wait_s",
       .help =
           "how long a rank that is told of a file looks for it (network file systems show files late); at most half "
           "of timeout_s",
       .unit = "s"});
    v(c.comm_checks,
      {.name = "comm_checks", .help = "compare every collective call across ranks first (slow; for bugs)"});
    v(c.piece_mib, {.name = "piece_mib", .help = "messages of CPU collectives are cut into pieces", .unit = "MiB"});
    v(c.bucket_mib,
      {.name = "bucket_mib", .help = "gradients are reduced in buckets while others are computed", .unit = "MiB"});
    v(c.shard_optimizer,
      {.name = "shard_optimizer", .help = "each learner keeps its share of AdamW's state (ZeRO-1); the same weights"});
    v(c.threads, {.name = "threads",
                  .help = "threads a rank computes with; 0: cores of the node shared by its ranks of "
                          "one role (with lag 1 also the learners), who work at the same time"});
    v(c.device, {.name = "device", .help = "auto (CUDA where there is one), cpu or cuda"});
    v(c.ranks_per_node, {.name = "ranks_per_node", .help = "for vbon plan: ranks on a node; 0: all on one"});
    v(c.devices_per_node,
      {.name = "devices_per_node", .help = "for vbon plan: GPUs in a node; -1: those of this machine"});
  }
};
// What is wrong with the values, one sentence each; empty: nothing.
std::vector<std::string> problems_of(const ClusterConfig& config);

// Where ranks are: the node of each, and the devices in every node (0: CPU).
struct Topology {
  std::vector<int> node_of_rank;
  int devices_per_node = 0;
  // Ranks fill node after node; the last may have fewer. ranks_per_node 0: all on one node.
  static Topology uniform(int num_ranks, int ranks_per_node, int devices_per_node);
};

struct Assignment {
  RoleSet roles;
  int rollout_index = -1;  // among the ranks of the role; -1: not its role
  int scorer_index = -1;
  int learner_index = -1;
  int node = 0;
  int device = -1;  // CUDA device within the node; -1: CPU
  bool operator==(const Assignment&) const = default;
};

struct Placement {
  std::vector<Assignment> ranks;                 // by world rank
  std::vector<int> rollouts, scorers, learners;  // world ranks by index within the role
  std::vector<std::string> notes;                // what works but wastes ranks, for people
  std::span<const int> ranks_of(Role role) const;
  int learner_root() const { return learners[0]; }
};

// UserError names the number that does not fit: roles that do not sum to the ranks, fewer chunks than learners, two
// learners on one device. num_chunks: of a step; 0: not known, nothing is checked against it.
Placement plan(const Topology& topology, const Roles& roles, int num_chunks);

// cluster.threads, and where that is 0 the cores of a node divided among the ranks that work at the same time: those of
// one role, with lag 1 the learners, too. The same on every rank.
int threads_per_rank(const Placement& placement, const ClusterConfig& cluster, int cores_per_node);

}  // namespace vbon::comm
