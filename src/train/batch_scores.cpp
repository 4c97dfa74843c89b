#include "train/batch_scores.hpp"

#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "train/method_objective.hpp"
#include "vbon/base/error.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

// The sequences of a batch, and the prompts that they answer.
class Scorer {
 public:
  Scorer(const LearnerTools& tools, const VbonConfig& vbon, const RolloutBatch& batch,
         std::span<const std::int64_t> rows)
      : tools_(tools), vbon_(vbon), batch_(batch), rows_(rows) {}

  BatchScores score(double kl_coef, const AnchorSamples* anchored) const {
    const Settings& settings = tools_.settings;
    const auto count = static_cast<double>(batch_.num_sequences());
    check(std::ssize(tools_.more) == batch_.num_more_rewards, "a column for every reward beside the main one");
    BatchScores scores;
    scores.has_ranks = static_cast<bool>(tools_.ranks);
    for (auto* means : {&scores.more_reward, &scores.more_log_f, &scores.more_win})
      means->assign(tools_.more.size(), 0.0);
    std::vector<float> score;
    for (std::int64_t i = 0; i < batch_.num_sequences(); ++i) {
      const float reward = batch_.reward[idx(i)];
      ScoredSample sample{.reward = reward, .prompt = prompt_of(i), .anchor = anchored};
      LogF log_f;
      if (scores.has_ranks) {
        log_f = log_f_of(i, reward);
        sample.log_f = &log_f;
        scores.win += tools_.ranks.win(row_of(i), reward) / count;
        scores.log_f += log_f.log_f / count;
        scores.at_floor += log_f.at_floor / count;
        scores.at_ceiling += log_f.at_ceiling / count;
        if (has_target_n(settings.train.method)) scores.mean_log_w += log_weight(vbon_, log_f) / count;
      }
      for (std::size_t k = 0; k < tools_.more.size(); ++k) sample.more_nats += score_more(k, i, scores);
      const ObjectiveNats objective = method_objective(settings, vbon_, kl_coef, sample);
      score.push_back(static_cast<float>(objective.reward));
      scores.costs = {.kl = objective.kl, .entropy = objective.entropy};
    }
    scores.score = score_with_eos_rule(at::tensor(score), at::tensor(batch_.finished, at::kByte), settings.ppo);
    return scores;
  }

  at::Tensor prefix_values() const {
    check(tools_.prefix_values != nullptr && !batch_.prefix_reward.empty(), "ppo.baseline prefix without prefixes");
    const PrefixValues& foretold = *tools_.prefix_values;
    at::Tensor values = at::zeros({batch_.num_sequences(), batch_.max_new_tokens}, at::kFloat);
    float* value = values.mutable_data_ptr<float>();
    for (std::int64_t i = 0; i < batch_.num_sequences(); ++i) {
      double last = foretold.start;
      for (std::int64_t t = 0; t < batch_.length[idx(i)]; ++t) {
        const std::int64_t cell = i * batch_.max_new_tokens + t;
        value[cell] = static_cast<float>(last);
        if ((t + 1) % foretold.every != 0 || t + 1 >= batch_.length[idx(i)]) continue;
        const LogF log_f = tools_.ranks.log_f(row_of(i), batch_.prefix_reward[idx(cell)], response(i, t + 1));
        last = foretold.lines[idx((t + 1) / foretold.every - 1)].value(scaled_objective(vbon_, log_f).reward);
      }
    }
    return values;
  }

 private:
  std::size_t prompt_of(std::int64_t sequence) const {
    return idx(sequence / tools_.settings.train.samples_per_prompt);
  }
  std::int64_t row_of(std::int64_t sequence) const { return rows_[prompt_of(sequence)]; }
  std::span<const std::int32_t> response(std::int64_t sequence, std::int64_t length) const {
    return std::span(batch_.tokens).subspan(idx(sequence * batch_.max_new_tokens), idx(length));
  }
  LogF log_f_of(std::int64_t sequence, float reward) const {
    return tools_.ranks.log_f(row_of(sequence), reward, response(sequence, batch_.length[idx(sequence)]));
  }

  // What reward k beside the main one adds to the objective of a sequence, in nats.
  double score_more(std::size_t k, std::int64_t sequence, BatchScores& scores) const {
    const auto count = static_cast<double>(batch_.num_sequences());
    const RankedReward& more = tools_.more[k];
    const float reward = batch_.more_reward[idx(sequence) * tools_.more.size() + k];
    const LogF log_f = more.ranks.log_f(row_of(sequence), reward, response(sequence, batch_.length[idx(sequence)]));
    scores.more_reward[k] += reward / count;
    scores.more_log_f[k] += log_f.log_f / count;
    scores.more_win[k] += more.ranks.win(row_of(sequence), reward) / count;
    return more.n > 1 ? objective_nats(with_n(vbon_, more.n), log_f).reward : 0;
  }

  const LearnerTools& tools_;
  const VbonConfig& vbon_;
  const RolloutBatch& batch_;
  std::span<const std::int64_t> rows_;
};

}  // namespace

BatchScores score_batch(const LearnerTools& tools, const VbonConfig& vbon, double kl_coef, const RolloutBatch& batch,
                        std::span<const std::int64_t> rows, const AnchorSamples* anchored) {
  return Scorer(tools, vbon, batch, rows).score(kl_coef, anchored);
}

at::Tensor prefix_values(const LearnerTools& tools, const VbonConfig& vbon, const RolloutBatch& batch,
                         std::span<const std::int64_t> rows) {
  return Scorer(tools, vbon, batch, rows).prefix_values();
}

void add_scores(Metrics& metrics, const BatchScores& scores, const std::vector<RankedReward>& more) {
  if (scores.has_ranks) {
    metrics["log_f"] = scores.log_f;
    metrics["floor_share"] = scores.at_floor;
    metrics["ceiling_share"] = scores.at_ceiling;
    metrics["win"] = scores.win;
  }
  for (std::size_t k = 0; k < more.size(); ++k) {
    metrics["reward." + more[k].name] = scores.more_reward[k];
    metrics["log_f." + more[k].name] = scores.more_log_f[k];
    metrics["win." + more[k].name] = scores.more_win[k];
  }
}

}  // namespace vbon
