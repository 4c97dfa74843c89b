// Loading what a command works on, and what identifies it. Loading happens on the ranks whose roles need it; hashes are
// taken once and shared.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vbon/model/causal_lm.hpp"
#include "vbon/objective/log_f.hpp"
#include "vbon/reward/scorer.hpp"
#include "vbon/store/pool.hpp"
#include "vbon/store/provenance.hpp"
#include "vbon/text/tokenizer.hpp"
#include "vbon/train/rank_context.hpp"
#include "vbon/train/reward_ranks.hpp"
#include "vbon/train/settings.hpp"

namespace vbon {

// Prompts of a file, tokenised with the start token in front.
struct Prompts {
  PromptRows rows;
  std::string sha256;     // of the set
  std::uint64_t key = 0;  // of the set, for draws
};

// UserError for what read_prompts and the model's context refuse.
Prompts load_prompts(const std::string& path, const Settings& settings, const Tokenizer& tokenizer, const LmSpec& spec);

// Tokens of a text as the model sees it: the start token (model.start_token), then the text's own.
std::vector<std::int32_t> encode_text(const Tokenizer& tokenizer, const std::optional<std::int64_t>& start_token,
                                      std::string_view text);

// SHA-256 of everything that decides a run's numbers.
struct Identities {
  std::string reference, tokenizer, reward, evaluator;  // "" where not used
  std::map<std::string, std::string> more;              // rewards beside them: name -> what made it
};
Identities identities_of(const Settings& settings);
Identities identify(RankContext& context, const Settings& settings);  // collective: the root reads, all get the result

// Root attributes that all of a command's files share.
Provenance provenance_of(const RankContext& context, const Settings& settings, const std::string& resolved_yaml,
                         const Identities& identities);
// CPU type, threads, library versions: what bit-exact resume depends on.
std::map<std::string, std::string> environment_of(const RankContext& context);

// A pool that is used with these prompts: checked against everything it was made with, and the row of each prompt in
// it. `forced` collects what --force overrode.
struct UsedPool {
  Pool pool;
  std::unique_ptr<LogFTable> table;  // of reward "main"
  std::vector<MoreTable> more;       // of section rewards
  std::vector<std::int64_t> row;     // of each prompt
};
struct PoolReading {
  SampleParts parts = SampleParts::all;
  std::int64_t use = 0;       // the first so many samples of a prompt; 0: all
  bool some_prompts = false;  // the pool may lack prompts, whose row is then -1
};
UsedPool load_pool(const std::string& path, const Settings& settings, const Prompts& prompts,
                   const Identities& identities, bool force, std::string& forced, const PoolReading& how = {});

at::ScalarType scalar_type(Dtype dtype);
std::string torch_version();

// Programs of exec rewards, started before MPI; null where a reward is of another kind.
struct RewardPrograms {
  std::shared_ptr<ExecProgram> reward, evaluator;
  std::map<std::string, std::shared_ptr<ExecProgram>> more;  // of section rewards
};
std::unique_ptr<RewardModel> load_reward(const RewardConfig& config, at::Device device,
                                         const std::shared_ptr<ExecProgram>& program);
// Those of section rewards, in the order of their names.
std::vector<std::unique_ptr<RewardModel>> load_more_rewards(const Settings& settings, at::Device device,
                                                            const RewardPrograms& programs);
std::vector<RewardModel*> pointers_to(const std::vector<std::unique_ptr<RewardModel>>& rewards);

}  // namespace vbon
