// Weights on their way to the rank that samples: it gets the learner's bits, and never samples from another version than
// the one that is due, nor from what arrived damaged. Rank 0 samples, rank 1 learns.
#include "train/rollout_weights.hpp"

#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <utility>

#include "support/world.hpp"
#include "unit/train/toy_world.hpp"
#include "vbon/base/error.hpp"

namespace vbon {
namespace {

using Fault = std::function<void(const comm::View& received)>;

// Broadcasts that a fault changes where they are received.
class Faulty final : public comm::Collectives {
 public:
  Faulty(std::unique_ptr<comm::Collectives> sound, const Fault& fault) : sound_(std::move(sound)), fault_(fault) {}
  const comm::Communicator& group() const override { return sound_->group(); }
  bool on_device() const override { return false; }
  comm::Collectives& host() override { return *this; }

 private:
  comm::Pending start(const comm::Call& call) override {
    check(call.operation == comm::Operation::broadcast, "what is published is broadcast");
    sound_->broadcast(std::span<std::byte>(call.out.data, static_cast<std::size_t>(call.out.bytes())), call.root,
                      call.what);
    if (rank() != call.root && fault_) fault_(call.out);
    return {};
  }
  std::unique_ptr<comm::Collectives> sound_;
  const Fault& fault_;
};

class Publishing : public testing::Test {
 protected:
  void SetUp() override {
    settings_.run.seed = 3;
    settings_.sampling = {.max_new_tokens = test::kToyTokens};
    settings_.train = {.layers = {1}, .samples_per_prompt = test::kToySamples};
    settings_.vbon = {.n = 3.0};
    settings_.ppo = {.baseline = Baseline::rloo, .kl_form = KlForm::exact};
    settings_.cluster = {.roles = comm::Roles::parse("{rollout: 1, scorer: 0, learner: 1}"),
                         .threads = 1,
                         .device = comm::DeviceKind::cpu};
    context_ = std::make_unique<RankContext>(make_rank_context(test::world(), settings_.cluster, 0));
    context_->publishing = std::make_unique<Faulty>(std::move(context_->publishing), fault_);
    if (context_->is_root()) learner_ = make_learner(reference_, settings_, *context_->learners);
    weights_ = std::make_unique<RolloutWeights>(*context_, settings_, reference_, learner_.get());
  }
  bool receives() const { return !context_->is_root(); }

  CausalLm reference_ = test::toy_lm({}, 31);
  Settings settings_;
  Fault fault_;
  std::unique_ptr<RankContext> context_;
  std::unique_ptr<LearnerState> learner_;
  std::unique_ptr<RolloutWeights> weights_;
};

TEST_F(Publishing, the_rank_that_samples_has_the_learners_weights) {
  if (learner_) test::disturb(learner_->parameters.values(), 0.1, 5);
  weights_->publish(1);
  if (!receives()) return;
  Policy same = make_policy(reference_, settings_.train.layers);
  FlatParameters parameters(trained_parameters(same), FlatParameters::Gradients::none);
  test::disturb(parameters.values(), 0.1, 5);
  Policy got{.model = *weights_->policy(),
             .layers = settings_.train.layers,
             .first_trained_block = same.first_trained_block};
  const auto mine = trained_parameters(same), theirs = trained_parameters(got);
  ASSERT_EQ(mine.size(), theirs.size());
  for (std::size_t i = 0; i < mine.size(); ++i) EXPECT_TRUE(at::equal(*mine[i].tensor, *theirs[i].tensor)) << mine[i].name;
}

TEST_F(Publishing, another_version_than_the_one_due_is_not_sampled_from) {
  weights_->publish(3);
  fault_ = [](const comm::View& received) {
    if (received.type == comm::DataType::int64) received.data[0] ^= std::byte{1};  // the version in the header
  };
  if (receives()) EXPECT_THROW(weights_->publish(4), InternalError);
  else EXPECT_NO_THROW(weights_->publish(4));
}

TEST_F(Publishing, damaged_weights_are_not_sampled_from) {
  weights_->publish(3);
  fault_ = [](const comm::View& received) {
    if (received.type == comm::DataType::uint8) received.data[received.bytes() / 2] ^= std::byte{1};
  };
  if (receives()) EXPECT_THROW(weights_->publish(4), EnvironmentError);
  else EXPECT_NO_THROW(weights_->publish(4));
}

}  // namespace
}  // namespace vbon
