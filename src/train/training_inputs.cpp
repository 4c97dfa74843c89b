#include "train/training_inputs.hpp"

#include <map>
#include <span>
#include <utility>

#include "vbon/base/log.hpp"
#include "vbon/comm/agree.hpp"
#include "vbon/model/hf_weights.hpp"
#include "vbon/text/prompts.hpp"
#include "vbon/train/amortise.hpp"
#include "vbon/train/imitation.hpp"

namespace vbon {
namespace {

std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

// Fills a TrainingInputs, part by part.
class Loading {
 public:
  Loading(TrainingInputs& in, RankContext& context, const Settings& settings, const RunText& text,
          const RewardPrograms& programs)
      : in_(in), context_(context), settings_(settings), text_(text), programs_(programs) {}

  void run() {
    context_.world.waiter().limit(settings_.cluster.init_timeout_s);
    in_.identities = identify(context_, settings_);
    comm::together(*context_.everyone, "loading", [&] {
      read_prompts();
      read_pools();
      read_rewards();
      if (context_.is(comm::Role::learner) || context_.is(comm::Role::rollout))
        in_.reference = load_causal_lm(settings_.model.reference, context_.device, scalar_type(settings_.model.dtype));
    });
    amortise();
    comm::together(*context_.everyone, "what the pool says", [&] { read_the_table(); });
    if (in_.pool && has_target_n(settings_.train.method) && context_.is_root()) warn_of_few_samples();
  }

 private:
  bool evaluates() const { return settings_.eval.every > 0; }

  void warn_of_few_samples() const {
    const std::int64_t m = in_.pool->pool.header.num_samples;
    for (const std::string& warning : warnings(settings_.vbon, m)) log::warn("{}", warning);
    for (const auto& [name, more] : settings_.rewards)
      for (const std::string& warning : warnings(with_n(settings_.vbon, more.n), m))
        log::warn("rewards.{}: {}", name, warning);
  }

  void read_prompts() {
    in_.tokenizer = Tokenizer::load(settings_.model.reference);
    in_.spec = read_lm_spec(settings_.model.reference);
    in_.prompts = load_prompts(settings_.prompts.train, settings_, *in_.tokenizer, in_.spec);
    require(is_offline(settings_.train.method) || settings_.train.prompts_per_step <= in_.prompts.rows.num_prompts(),
            "train.prompts_per_step is {}, but '{}' holds {} prompts", settings_.train.prompts_per_step,
            settings_.prompts.train, in_.prompts.rows.num_prompts());
    if (evaluates()) in_.eval_prompts = load_prompts(settings_.prompts.eval, settings_, *in_.tokenizer, in_.spec);
  }

  void read_pools() {
    // The trunk's rows of a pool of another reference, which --force lets pass, are none of this one's.
    const bool reads_trunk = is_offline_step(settings_, 0) && context_.is(comm::Role::learner) && !text_.force;
    if (reads_pool(settings_))
      in_.pool = load_pool(settings_.pool.path, settings_, in_.prompts, in_.identities, text_.force, in_.forced,
                           {.parts = reads_trunk ? SampleParts::with_trunk : SampleParts::all,
                            .use = settings_.pool.use,
                            .some_prompts = settings_.amortised.weight.has_value()});
    if (evaluates())
      in_.eval_pool =
          load_pool(settings_.pool.eval_path, settings_, *in_.eval_prompts, in_.identities, text_.force, in_.forced);
  }

  void read_rewards() {
    if (!context_.is(comm::Role::scorer)) return;
    in_.reward = load_reward(settings_.reward, context_.device, programs_.reward);
    in_.more_rewards = load_more_rewards(settings_, context_.device, programs_);
    if (settings_.evaluator.configured() && evaluates())
      in_.evaluator = load_reward(settings_.evaluator, context_.device, programs_.evaluator);
  }

  // F by the head: as the prior of the pool's table, and of prompts that the pool lacks.
  void amortise() {
    if (!settings_.amortised.weight) return;
    double round = 0;  // the head's
    const auto mixtures_of = [&](const PromptRows& prompts) {
      return amortised_mixtures(context_, settings_, in_.identities, context_.is_root() ? &in_.reference : nullptr,
                                prompts, context_.placement.learner_root(), round);
    };
    if (in_.pool)
      in_.pool->table->set_prior({.of_row = mixtures_of(in_.pool->pool.block.prompts),
                                  .weight = *settings_.amortised.weight,
                                  .round = settings_.reward.round});
    const PromptRows& all = in_.prompts.rows;
    PromptRows lacking;  // in the pool
    std::vector<std::int64_t> rows;
    for (std::int64_t row = 0; row < all.num_prompts(); ++row)
      if (!in_.pool || in_.pool->row[idx(row)] < 0) {
        rows.push_back(row);
        lacking.add(all.id[idx(row)], all.text[idx(row)], all.tokens_of(row));
      }
    std::vector<LogisticMixture> mixtures = mixtures_of(lacking);
    std::map<std::int64_t, LogisticMixture> by_row;
    for (std::size_t i = 0; i < rows.size(); ++i) by_row.emplace(rows[i], std::move(mixtures[i]));
    in_.ranks = with_mixtures(in_.pool ? ranks_of_table(*in_.pool->table, in_.pool->row) : RewardRanks{},
                              std::move(by_row), round);
  }

  void read_the_table() {
    if (!in_.pool) return;
    if (!in_.ranks) in_.ranks = ranks_of_table(*in_.pool->table, in_.pool->row);
    if (is_offline_step(settings_, 0) && context_.is(comm::Role::learner))
      in_.pool_loss =
          make_pool_loss(offline_method(settings_), settings_, in_.pool->pool, *in_.pool->table, in_.pool->more);
    if (settings_.train.method == Method::vbon && settings_.ppo.baseline == Baseline::prefix)
      in_.prefix_values = fit_prefix_values(in_.pool->pool, *in_.pool->table, [this](const LogF& f) {
        return scaled_objective(settings_.vbon, f).reward;
      });
  }

  TrainingInputs& in_;
  RankContext& context_;
  const Settings& settings_;
  const RunText& text_;
  const RewardPrograms& programs_;
};

}  // namespace

bool is_offline_step(const Settings& settings, std::int64_t step) {
  return is_offline(settings.train.method) || step < settings.train.warm_start;
}

Method offline_method(const Settings& settings) {
  return is_offline(settings.train.method) ? settings.train.method : Method::regression;
}

TrainingInputs::TrainingInputs(RankContext& context, const Settings& settings, const RunText& text,
                               const RewardPrograms& programs) {
  Loading(*this, context, settings, text, programs).run();
}

LearnerTools TrainingInputs::learner_tools(const Settings& settings, Phases& phases) const {
  LearnerTools tools{.settings = settings, .phases = phases, .prompts = prompts.rows};
  if (prefix_values) tools.prefix_values = &*prefix_values;
  tools.ranks = ranks;
  if (pool)
    for (const MoreTable& more : pool->more)
      tools.more.push_back({more.name, more.n, ranks_of_table(*more.table, pool->row)});
  if (is_mixed(settings.train.method))
    tools.imitated = [this, &settings](std::span<const std::int64_t> rows, std::int64_t step) {
      std::vector<std::int64_t> pool_rows;
      for (const std::int64_t row : rows) pool_rows.push_back(pool->row[idx(row)]);
      return best_of_pool(pool->pool, pool_rows, target_n(settings.vbon), settings.mixture.samples, *settings.run.seed,
                          step);
    };
  return tools;
}

}  // namespace vbon
