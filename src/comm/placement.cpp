#include "vbon/comm/placement.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>

#include "vbon/base/error.hpp"
#include "vbon/base/words.hpp"

namespace vbon::comm {
namespace {

constexpr std::array kAllRoles = {Role::rollout, Role::scorer, Role::learner};
constexpr std::array<std::pair<DeviceKind, std::string_view>, 3> kDeviceKinds = {
    {{DeviceKind::automatic, "auto"}, {DeviceKind::cpu, "cpu"}, {DeviceKind::cuda, "cuda"}}};

constexpr const char* kHowTo = "write auto, all, or {rollout: R, scorer: S, learner: L}";

int parse_number(std::string_view text, std::string_view role) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(!text.empty() && error == std::errc() && end == text.data() + text.size() && value >= 0,
          "roles: '{}' is no number of {} ranks", text, role);
  return value;
}

// Whether the last `learners` ranks, which learn, find a device each on their nodes.
bool devices_suffice(const Topology& topology, int learners) {
  if (topology.devices_per_node == 0) return true;
  std::map<int, int> on_node;
  for (auto node = topology.node_of_rank.rbegin(); learners > 0; ++node, --learners)
    if (++on_node[*node] > topology.devices_per_node) return false;
  return true;
}

Roles automatic_numbers(const Topology& topology, int num_chunks) {
  const auto num_ranks = static_cast<int>(topology.node_of_rank.size());
  if (num_ranks == 1) return {.kind = Roles::Kind::all};
  if (num_ranks == 2) return {.kind = Roles::Kind::numbers, .rollout = 1, .scorer = 0, .learner = 1};
  Roles roles = {.kind = Roles::Kind::numbers};
  roles.scorer = std::max(1, num_ranks / 8);
  roles.learner = std::max(1, (num_ranks - roles.scorer) * 2 / 5);
  if (num_chunks > 0) roles.learner = std::min(roles.learner, num_chunks);
  while (!devices_suffice(topology, roles.learner)) --roles.learner;
  roles.rollout = num_ranks - roles.scorer - roles.learner;
  return roles;
}

void check_numbers(const Roles& roles, int num_ranks) {
  require(roles.rollout >= 1, "cluster.roles has {} rollout ranks; at least one is needed", roles.rollout);
  require(roles.learner >= 1, "cluster.roles has {} learner ranks; at least one is needed", roles.learner);
  require(roles.scorer >= 0, "cluster.roles has {} scorer ranks", roles.scorer);
  const std::int64_t sum = std::int64_t{roles.rollout} + roles.scorer + roles.learner;
  require(
      sum == num_ranks,
      "cluster.roles asks for {} ranks ({} rollout + {} scorer + {} learner), but there {} {}: start {} ranks, change "
      "the numbers, or use cluster.roles: auto",
      sum, roles.rollout, roles.scorer, roles.learner, num_ranks == 1 ? "is" : "are", num_ranks, sum);
}

std::vector<RoleSet> deal(const Roles& roles, int num_ranks) {
  const RoleSet everything = RoleSet{}.with(Role::rollout).with(Role::scorer).with(Role::learner);
  const RoleSet sampler =
      roles.scorer == 0 ? RoleSet{}.with(Role::rollout).with(Role::scorer) : RoleSet{}.with(Role::rollout);
  if (roles.kind == Roles::Kind::all) return std::vector<RoleSet>(static_cast<std::size_t>(num_ranks), everything);
  std::vector<RoleSet> dealt;
  dealt.insert(dealt.end(), static_cast<std::size_t>(roles.rollout), sampler);
  dealt.insert(dealt.end(), static_cast<std::size_t>(roles.scorer), RoleSet{}.with(Role::scorer));
  dealt.insert(dealt.end(), static_cast<std::size_t>(roles.learner), RoleSet{}.with(Role::learner));
  return dealt;
}

// Learners take devices of their own first (two ranks of one NCCL group on one device may hang); then the others go
// round over the devices with the fewest ranks.
void assign_devices(Placement& placement, int devices_per_node) {
  if (devices_per_node == 0) return;
  std::map<int, std::vector<int>> load;  // a node: ranks on each device
  const auto take = [&](Assignment& rank) -> int {
    std::vector<int>& devices = load[rank.node];
    devices.resize(static_cast<std::size_t>(devices_per_node));
    const auto least = std::min_element(devices.begin(), devices.end());
    rank.device = static_cast<int>(least - devices.begin());
    return (*least)++;
  };
  for (const int learner : placement.learners) {
    Assignment& rank = placement.ranks[static_cast<std::size_t>(learner)];
    const int others = take(rank);
    require(others == 0, "node {} has {} GPUs for more learners than that; use at most one learner a GPU", rank.node,
            devices_per_node);
  }
  for (Assignment& rank : placement.ranks)
    if (rank.device < 0) take(rank);
}

void add_notes(Placement& placement, int num_chunks) {
  if (num_chunks <= 0) return;
  for (const Role role : {Role::rollout, Role::scorer}) {
    const auto ranks = static_cast<int>(placement.ranks_of(role).size());
    if (ranks > num_chunks)
      placement.notes.push_back(fmt::format("{} of {} {} ranks have nothing to do: a step has {} chunks",
                                            ranks - num_chunks, ranks, name_of(role), num_chunks));
  }
  const auto learners = static_cast<int>(placement.learners.size());
  if (num_chunks % learners != 0)
    placement.notes.push_back(fmt::format("{} chunks do not divide evenly among {} learners", num_chunks, learners));
}

}  // namespace

std::string_view name_of(Role role) {
  return role == Role::rollout ? "rollout" : role == Role::scorer ? "scorer" : "learner";
}

std::string RoleSet::text() const {
  std::vector<std::string> names;
  for (const Role role : kAllRoles)
    if (has(role)) names.emplace_back(name_of(role));
  return joined(names, "+");
}

Roles Roles::parse(std::string_view text) {
  std::string_view body = trimmed(text);
  if (body == "auto") return {};
  if (body == "all") return {.kind = Kind::all};
  if (body.starts_with('{') || body.ends_with('}')) {
    require(body.size() >= 2 && body.starts_with('{') && body.ends_with('}'), "roles '{}': {}", text, kHowTo);
    body = trimmed(body.substr(1, body.size() - 2));
  }
  Roles roles = {.kind = Kind::numbers, .rollout = -1, .scorer = -1, .learner = -1};
  const std::array<std::pair<std::string, int*>, 3> parts = {
      {{"rollout", &roles.rollout}, {"scorer", &roles.scorer}, {"learner", &roles.learner}}};
  for (const std::string& entry : split(body, ',')) {
    const std::size_t colon = entry.find_first_of(":=");
    require(colon != std::string::npos, "roles '{}': {}", text, kHowTo);
    const std::string_view name = trimmed(std::string_view(entry).substr(0, colon));
    const auto part = std::find_if(parts.begin(), parts.end(), [&](const auto& p) { return p.first == name; });
    if (part == parts.end()) {
      const std::array<std::string, 3> names = {"rollout", "scorer", "learner"};
      const std::string nearest = nearest_name(name, names);
      throw UserError("roles: unknown role '{}'{}; {}", name,
                      nearest.empty() ? "" : ", did you mean '" + nearest + "'?", kHowTo);
    }
    require(*part->second < 0, "roles: '{}' is given twice", name);
    *part->second = parse_number(trimmed(std::string_view(entry).substr(colon + 1)), name);
  }
  for (const auto& [name, value] : parts)
    require(*value >= 0, "roles '{}' does not say how many {} ranks: {}", text, name, kHowTo);
  return roles;
}

std::string Roles::text() const {
  if (kind == Kind::automatic) return "auto";
  if (kind == Kind::all) return "all";
  return fmt::format("{{rollout: {}, scorer: {}, learner: {}}}", rollout, scorer, learner);
}

std::span<const std::pair<DeviceKind, std::string_view>> enum_names(DeviceKind) { return kDeviceKinds; }

std::vector<std::string> problems_of(const ClusterConfig& c) {
  std::vector<std::string> problems;
  const auto demand = [&](bool condition, const std::string& text) {
    if (!condition) problems.push_back(text);
  };
  demand(c.lag == 0 || c.lag == 1, fmt::format("cluster.lag is {}; it can be 0 or 1", c.lag));
  demand(c.timeout_s > 0.0, fmt::format("cluster.timeout_s is {}; it must be positive", c.timeout_s));
  demand(c.init_timeout_s > 0.0, fmt::format("cluster.init_timeout_s is {}; it must be positive", c.init_timeout_s));
  demand(c.file_wait_s >= 0.0,
         fmt::format("cluster.file_wait_s is {}; it can be 0 (do not wait) or more", c.file_wait_s));
  demand(c.piece_mib >= 0.001 && c.piece_mib <= 1024.0,
         fmt::format("cluster.piece_mib is {}; it can be 0.001 to 1024", c.piece_mib));
  demand(c.bucket_mib >= 0.001 && c.bucket_mib <= 65536.0,
         fmt::format("cluster.bucket_mib is {}; it can be 0.001 to 65536", c.bucket_mib));
  demand(c.threads >= 0 && c.threads <= 4096, fmt::format("cluster.threads is {}; it can be 0 to 4096", c.threads));
  demand(c.ranks_per_node >= 0, fmt::format("cluster.ranks_per_node is {}; it can be 0 or more", c.ranks_per_node));
  demand(c.devices_per_node >= -1,
         fmt::format("cluster.devices_per_node is {}; it can be -1 or more", c.devices_per_node));
  if (c.roles.kind == Roles::Kind::numbers) {
    demand(c.roles.rollout >= 1, "cluster.roles needs at least one rollout rank");
    demand(c.roles.learner >= 1, "cluster.roles needs at least one learner rank");
  }
  return problems;
}

Topology Topology::uniform(int num_ranks, int ranks_per_node, int devices_per_node) {
  require(num_ranks >= 1, "{} ranks: at least one is needed", num_ranks);
  Topology topology = {.devices_per_node = std::max(devices_per_node, 0)};
  for (int r = 0; r < num_ranks; ++r) topology.node_of_rank.push_back(ranks_per_node > 0 ? r / ranks_per_node : 0);
  return topology;
}

std::span<const int> Placement::ranks_of(Role role) const {
  return role == Role::rollout ? rollouts : role == Role::scorer ? scorers : learners;
}

Placement plan(const Topology& topology, const Roles& requested, int num_chunks) {
  const auto num_ranks = static_cast<int>(topology.node_of_rank.size());
  check(num_ranks >= 1 && topology.devices_per_node >= 0 && num_chunks >= 0, "a topology has ranks");
  Roles roles = requested;
  if (roles.kind == Roles::Kind::automatic) roles = automatic_numbers(topology, num_chunks);
  if (roles.kind == Roles::Kind::numbers) check_numbers(roles, num_ranks);
  Placement placement;
  const std::vector<RoleSet> dealt = deal(roles, num_ranks);
  for (int r = 0; r < num_ranks; ++r) {
    const auto index = static_cast<std::size_t>(r);
    Assignment rank = {.roles = dealt[index], .node = topology.node_of_rank[index]};
    const auto enter = [&](Role role, std::vector<int>& members) {
      if (!rank.roles.has(role)) return -1;
      members.push_back(r);
      return static_cast<int>(members.size()) - 1;
    };
    rank.rollout_index = enter(Role::rollout, placement.rollouts);
    rank.scorer_index = enter(Role::scorer, placement.scorers);
    rank.learner_index = enter(Role::learner, placement.learners);
    placement.ranks.push_back(rank);
  }
  const auto learners = static_cast<int>(placement.learners.size());
  require(num_chunks == 0 || learners <= num_chunks,
          "{} learners share a step of {}: use fewer learners (cluster.roles), or more or smaller chunks", learners,
          counted(num_chunks, "chunk"));
  assign_devices(placement, topology.devices_per_node);
  add_notes(placement, num_chunks);
  return placement;
}

int threads_per_rank(const Placement& placement, const ClusterConfig& cluster, int cores_per_node) {
  if (cluster.threads > 0) return cluster.threads;
  std::map<std::pair<int, int>, int> together;  // (node, role): ranks
  int most = 1;
  for (const Assignment& rank : placement.ranks)
    for (const Role role : kAllRoles)
      if (rank.roles.has(role) || (cluster.lag > 0 && rank.roles.has(Role::learner)))
        most = std::max(most, ++together[{rank.node, static_cast<int>(role)}]);
  return std::max(1, cores_per_node / most);
}

}  // namespace vbon::comm
