#include "vbon/comm/placement.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <set>

#include "vbon/base/error.hpp"

namespace vbon::comm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

template <class F>
std::string user_error(F&& work) {
  try {
    work();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

std::vector<std::string> texts(const Placement& placement) {
  std::vector<std::string> result;
  for (const Assignment& rank : placement.ranks) result.push_back(rank.roles.text());
  return result;
}

Placement plan_of(int ranks, const char* roles, int chunks = 0, int ranks_per_node = 0, int devices = 0) {
  return plan(Topology::uniform(ranks, ranks_per_node, devices), Roles::parse(roles), chunks);
}

TEST(Placement, small_worlds_are_those_of_the_contract) {
  EXPECT_THAT(texts(plan_of(1, "auto")), ElementsAre("rollout+scorer+learner"));
  EXPECT_THAT(texts(plan_of(2, "auto")), ElementsAre("rollout+scorer", "learner"));
  EXPECT_THAT(texts(plan_of(3, "auto")), ElementsAre("rollout", "scorer", "learner"));
  EXPECT_THAT(texts(plan_of(4, "auto")), ElementsAre("rollout", "rollout", "scorer", "learner"));
  EXPECT_THAT(texts(plan_of(6, "auto")), ElementsAre("rollout", "rollout", "rollout", "scorer", "learner", "learner"));
  EXPECT_THAT(texts(plan_of(2, "all")), ElementsAre("rollout+scorer+learner", "rollout+scorer+learner"));
}

// What every placement keeps, whatever was asked for.
void expect_sound(const Placement& p, int ranks, int chunks, int devices) {
  ASSERT_EQ(p.ranks.size(), static_cast<std::size_t>(ranks));
  std::map<Role, std::vector<int>> members;
  std::set<std::pair<int, int>> learner_devices;
  for (int r = 0; r < ranks; ++r) {
    const Assignment& rank = p.ranks[static_cast<std::size_t>(r)];
    EXPECT_NE(rank.roles, RoleSet{}) << "rank " << r << " has nothing to do";
    for (const auto& [role, index] : {std::pair(Role::rollout, rank.rollout_index),
                                      {Role::scorer, rank.scorer_index},
                                      {Role::learner, rank.learner_index}}) {
      EXPECT_EQ(rank.roles.has(role), index >= 0);
      if (index < 0) continue;
      EXPECT_EQ(index, static_cast<int>(members[role].size()));
      members[role].push_back(r);
    }
    EXPECT_EQ(rank.device >= 0, devices > 0);
    EXPECT_LT(rank.device, std::max(devices, 1));
    if (devices > 0 && rank.roles.has(Role::learner)) {
      EXPECT_TRUE(learner_devices.insert({rank.node, rank.device}).second) << "two learners on one device";
    }
  }
  for (const Role role : {Role::rollout, Role::scorer, Role::learner}) {
    EXPECT_GE(members[role].size(), 1u) << name_of(role);
    const std::span<const int> listed = p.ranks_of(role);
    EXPECT_EQ(members[role], std::vector<int>(listed.begin(), listed.end()));
  }
  if (chunks > 0) {
    EXPECT_LE(static_cast<int>(p.learners.size()), chunks);
  }
}

TEST(Placement, auto_is_sound_for_every_size) {
  for (int ranks = 1; ranks <= 1024; ranks = ranks < 40 ? ranks + 1 : ranks * 3 / 2)
    for (const int chunks : {0, 1, 2, 7, 64, 4096})
      for (const int devices : {0, 1, 2, 8}) {
        SCOPED_TRACE(fmt::format("{} ranks, {} chunks, {} devices", ranks, chunks, devices));
        const Placement p = plan_of(ranks, "auto", chunks, 8, devices);
        expect_sound(p, ranks, chunks, devices);
        if (ranks < 4) continue;
        EXPECT_EQ(p.scorers.size(), static_cast<std::size_t>(std::max(1, ranks / 8)));
        EXPECT_GE(p.rollouts.size(), p.learners.size());
        if (chunks == 0 && devices % 8 == 0) {
          EXPECT_GE(3 * p.learners.size(), p.rollouts.size());
        }
      }
}

TEST(Placement, numbers_are_taken_as_they_are_or_refused) {
  int accepted = 0;
  for (int ranks = 1; ranks <= 12; ++ranks)
    for (int rollout = 0; rollout <= 6; ++rollout)
      for (int scorer = 0; scorer <= 3; ++scorer)
        for (int learner = 0; learner <= 5; ++learner)
          for (const int chunks : {0, 1, 3}) {
            const Roles roles = {
                .kind = Roles::Kind::numbers, .rollout = rollout, .scorer = scorer, .learner = learner};
            const auto work = [&] { return plan(Topology::uniform(ranks, 4, 0), roles, chunks); };
            const bool fits = rollout >= 1 && learner >= 1 && rollout + scorer + learner == ranks &&
                              (chunks == 0 || learner <= chunks);
            SCOPED_TRACE(fmt::format("{} on {} ranks, {} chunks", roles.text(), ranks, chunks));
            if (!fits) {
              EXPECT_THROW(work(), UserError);
              continue;
            }
            ++accepted;
            const Placement p = work();
            expect_sound(p, ranks, chunks, 0);
            EXPECT_EQ(static_cast<int>(p.rollouts.size()), rollout);
            EXPECT_EQ(static_cast<int>(p.scorers.size()), scorer > 0 ? scorer : rollout);
            EXPECT_EQ(static_cast<int>(p.learners.size()), learner);
            EXPECT_EQ(p.learner_root(), rollout + scorer);
          }
  EXPECT_GT(accepted, 100);
}

TEST(Placement, errors_name_the_number_that_does_not_fit) {
  EXPECT_THAT(user_error([] { plan_of(3, "{rollout: 2, scorer: 1, learner: 1}"); }),
              HasSubstr("asks for 4 ranks (2 rollout + 1 scorer + 1 learner), but there are 3: start 4 ranks"));
  EXPECT_THAT(user_error([] { plan_of(1, "rollout=1,scorer=1,learner=1"); }),
              HasSubstr("but there is 1: start 3 ranks"));
  EXPECT_THAT(user_error([] { plan_of(8, "{rollout: 1, scorer: 1, learner: 6}", 4); }),
              HasSubstr("6 learners share a step of 4 chunks"));
  EXPECT_THAT(user_error([] { plan_of(5, "all", 4); }), HasSubstr("5 learners share a step of 4 chunks"));
  EXPECT_THAT(user_error([] { plan_of(4, "{rollout: 1, scorer: 0, learner: 3}", 0, 4, 2); }),
              HasSubstr("node 0 has 2 GPUs"));
  EXPECT_THAT(user_error([] { plan_of(2, "{rollout: 0, scorer: 1, learner: 1}"); }), HasSubstr("0 rollout ranks"));
  EXPECT_THAT(user_error([] { plan_of(2, "{rollout: 2000000000, scorer: 2000000000, learner: 2000000000}"); }),
              HasSubstr("asks for 6000000000 ranks"));
}

TEST(Placement, devices_go_to_learners_first_then_round) {
  const Placement p = plan_of(6, "{rollout: 3, scorer: 1, learner: 2}", 0, 6, 4);
  std::vector<int> devices;
  for (const Assignment& rank : p.ranks) devices.push_back(rank.device);
  EXPECT_THAT(devices, ElementsAre(2, 3, 0, 1, 0, 1));
  const Placement one_gpu = plan_of(3, "auto", 0, 3, 1);
  for (const Assignment& rank : one_gpu.ranks) EXPECT_EQ(rank.device, 0);
}

TEST(Placement, nodes_may_be_filled_in_any_order) {
  const Placement p =
      plan({.node_of_rank = {0, 1, 0, 1}, .devices_per_node = 1}, Roles::parse("rollout=2,scorer=0,learner=2"), 0);
  EXPECT_EQ(p.ranks[1].node, 1);
  EXPECT_EQ(p.ranks[2].device, 0);
  EXPECT_EQ(p.ranks[3].device, 0);
}

TEST(Placement, wasted_ranks_are_noted) {
  EXPECT_THAT(plan_of(8, "{rollout: 6, scorer: 1, learner: 1}", 4).notes,
              ElementsAre("2 of 6 rollout ranks have nothing to do: a step has 4 chunks"));
  EXPECT_THAT(plan_of(5, "{rollout: 2, scorer: 1, learner: 2}", 5).notes,
              ElementsAre("5 chunks do not divide evenly among 2 learners"));
  EXPECT_TRUE(plan_of(4, "auto", 8).notes.empty());
}

TEST(Placement, ranks_of_one_role_share_the_cores_of_their_node) {
  const ClusterConfig on_policy, overlapped = {.lag = 1};
  EXPECT_EQ(threads_per_rank(plan_of(1, "auto"), on_policy, 2), 2);
  EXPECT_EQ(threads_per_rank(plan_of(3, "auto"), on_policy, 2), 2) << "roles take turns";
  EXPECT_EQ(threads_per_rank(plan_of(2, "all"), on_policy, 2), 1);
  EXPECT_EQ(threads_per_rank(plan_of(16, "all", 0, 8), on_policy, 64), 8);
  EXPECT_EQ(threads_per_rank(plan_of(6, "all"), on_policy, 2), 1);
  const char* one_each = "rollout: 1, scorer: 1, learner: 1";
  EXPECT_EQ(threads_per_rank(plan_of(3, one_each), on_policy, 8), 8);
  EXPECT_EQ(threads_per_rank(plan_of(3, one_each), overlapped, 8), 4)
      << "a rank draws or scores while the learner learns";
  EXPECT_EQ(threads_per_rank(plan_of(6, "rollout: 3, scorer: 1, learner: 2"), overlapped, 10), 2);
  EXPECT_EQ(threads_per_rank(plan_of(2, "all"), overlapped, 8), 4) << "ranks with all roles are counted once";
  EXPECT_EQ(threads_per_rank(plan_of(3, one_each), {.threads = 5}, 8), 5) << "a number in the config is taken as it is";
}

TEST(Roles, read_and_written_in_every_form) {
  const Roles numbers = {.kind = Roles::Kind::numbers, .rollout = 2, .scorer = 1, .learner = 3};
  for (const char* text : {"{rollout: 2, scorer: 1, learner: 3}", "rollout=2,scorer=1,learner=3",
                           " { learner:3,scorer : 1 , rollout: 2 } ", "rollout: 2, scorer: 1, learner: 3"})
    EXPECT_EQ(Roles::parse(text), numbers) << text;
  EXPECT_EQ(Roles::parse("auto"), Roles{});
  EXPECT_EQ(Roles::parse(" all ").kind, Roles::Kind::all);
  for (const Roles& roles : {numbers, Roles{}, Roles{.kind = Roles::Kind::all}})
    EXPECT_EQ(Roles::parse(roles.text()), roles) << roles.text();
}

TEST(Roles, nonsense_is_refused_with_what_to_write) {
  for (const char* text : {"", "automatic", "{}", "{rollout: 2", "rollout", "rollout: -1, scorer: 1, learner: 1",
                           "rollout: 1.5, scorer: 1, learner: 1", "rollout: 99999999999, scorer: 1, learner: 1",
                           "rollout: 1, rollout: 2, scorer: 1, learner: 1", "rollout: 1, learner: 1", "}{"})
    EXPECT_THROW(Roles::parse(text), UserError) << text;
  EXPECT_THAT(user_error([] { Roles::parse("{rollouts: 2, scorer: 1, learner: 1}"); }),
              HasSubstr("unknown role 'rollouts', did you mean 'rollout'?"));
  EXPECT_THAT(user_error([] { Roles::parse("{rollout: 2, learner: 1}"); }), HasSubstr("how many scorer ranks"));
}

TEST(ClusterConfig, defaults_are_right_and_every_bad_value_is_named_at_once) {
  EXPECT_TRUE(problems_of({}).empty());
  ClusterConfig bad;
  bad.lag = 2;
  bad.timeout_s = 0.0;
  bad.init_timeout_s = -1.0;
  bad.piece_mib = std::numeric_limits<double>::quiet_NaN();
  bad.bucket_mib = 0.0;
  bad.threads = -1;
  bad.ranks_per_node = -2;
  bad.devices_per_node = -2;
  bad.roles = {.kind = Roles::Kind::numbers, .rollout = 0, .scorer = 1, .learner = 0};
  EXPECT_EQ(problems_of(bad).size(), 10u);
}

struct Names {
  std::set<std::string> names;
  template <class T>
  void operator()(T&, const FieldInfo& info) {
    EXPECT_TRUE(names.insert(std::string(info.name)).second);
    EXPECT_FALSE(info.help.empty());
  }
};

TEST(ClusterConfig, fields_have_names_and_help) {
  static_assert(Section<ClusterConfig> && TextValue<Roles> && NamedEnum<DeviceKind>);
  Names names;
  ClusterConfig config;
  ClusterConfig::visit(names, config);
  for (const char* name : {"roles", "lag", "timeout_s", "file_wait_s", "bucket_mib", "shard_optimizer", "device"})
    EXPECT_TRUE(names.names.contains(name)) << name;
}

}  // namespace
}  // namespace vbon::comm
