#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <stdexcept>

#include "cli/sweep_grid.hpp"
#include "fuzz/readers.hpp"
#include "unit/cli/sample_config.hpp"
#include "vbon/base/files.hpp"
#include "vbon/cli/yaml.hpp"
#include "vbon/comm/placement.hpp"
#include "vbon/generate/sampling.hpp"
#include "vbon/objective/ppo_config.hpp"
#include "vbon/objective/vbon_config.hpp"
#include "vbon/reward/reward_config.hpp"
#include "vbon/store/checkpoint.hpp"
#include "vbon/store/rollout_files.hpp"
#include "vbon/text/prompts.hpp"
#include "vbon/text/records.hpp"
#include "vbon/text/tokenizer.hpp"
#include "vbon/train/cdf_head.hpp"
#include "vbon/train/mixture_config.hpp"
#include "vbon/train/offline_config.hpp"
#include "vbon/train/step_model.hpp"

namespace vbon::fuzz {
namespace {

const fs::path kGolden = fs::path(VBON_TEST_DATA) / "golden";

void read_tokenizer(const fs::path& folder) {
  const Tokenizer tokenizer = Tokenizer::load(folder);
  for (const std::string text : {"", "Hello, world! It's 12345\n\n  <s>[CLS] x</s>",
                                 "\xC3\xA9t\xC3\xA9 \xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x98\x80\xFF", "<|endoftext|>a"}) {
    const std::vector<std::int32_t> ids = tokenizer.encode(text);
    tokenizer.encode(text, {.add_special_tokens = false, .parse_special = false});
    tokenizer.decode(ids);
    tokenizer.decode(ids, {.skip_special_tokens = false});
  }
  tokenizer.decode(std::array<std::int32_t, 4>{-1, 0, tokenizer.vocab_size(), 2147483647});
  tokenizer.token(tokenizer.vocab_size() - 1);
  tokenizer.id("a");
  for (const AddedToken& token : tokenizer.added_tokens()) tokenizer.is_special(token.id);
}

Files golden_text(const std::string& name, std::initializer_list<const char*> files) {
  Files content;
  for (const char* file : files) content[file] = read_file(kGolden / "text" / name / file);
  return content;
}

const char* const kAdded = R"({"<extra>": 999})";
const char* const kSpecial = R"({"bos_token": "<s>", "pad_token": {"content": "<pad>", "lstrip": true}})";

std::vector<Reader> tokenizers() {
  std::vector<Files> whole;
  for (const char* name : {"gpt2", "bert_uncased", "byte_fallback", "llama3", "neox", "smollm2", "roberta"})
    whole.push_back(golden_text(name, {"tokenizer.json"}));
  Files gpt2 = golden_text("gpt2_files", {"vocab.json", "merges.txt"}),
        bert = golden_text("distilbert_files", {"vocab.txt", "tokenizer_config.json"});
  gpt2["special_tokens_map.json"] = kSpecial;
  gpt2["tokenizer_config.json"] =
      R"({"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": true, "add_bos_token": true,
    "added_tokens_decoder": {"1100": {"content": "<x>", "special": true, "single_word": true, "normalized": false}}})";
  bert["config.json"] = R"({"model_type": "distilbert"})";
  return {{.name = "tokenizer.json", .seeds = std::move(whole), .read = read_tokenizer},
          {.name = "vocabulary files", .seeds = {gpt2, bert}, .read = read_tokenizer}};
}

const char* const kPrompts =
    "{\"prompt\": \"one\", \"id\": 7}\n\n{\"prompt\": \"zw\xC3\xB6lf\", \"more\": [1, {\"a\": null}]}\n{\"prompt\": \"x\\n\"}\n";
const char* const kTexts = "{\"text\": \"one\"}\n{\"prompt\": \"a\", \"response\": \"b\"}\n";
const char* const kLabels = "{\"text\": \"good\", \"label\": 1}\n{\"text\": \"bad\", \"label\": 0.25, \"weight\": 2}\n";
const char* const kScores = "{\"text\": \"good\", \"score\": -1e3}\n{\"text\": \"bad\", \"score\": 3}\n";
const char* const kPairs =
    "{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"b\"}\n{\"chosen\": \"c\", \"rejected\": \"d\", \"weight\": 0.5}\n";

std::vector<Reader> records() {
  const auto prompts = [](const fs::path& folder) {
    for (const char* name : {"a.jsonl", "a.txt"})
      if (fs::exists(folder / name)) {
        const PromptSet set = read_prompts(folder / name);
        prompt_indices(1, set.key(), static_cast<std::int64_t>(set.size()), 3, 1);
        make_prompt_set(set.ids, set.texts);
      }
  };
  return {
      {.name = "prompts",
       .seeds = {{{"a.jsonl", kPrompts}}, {{"a.txt", "one\ntwo\r\nthree\n"}}, {{"a.txt", kPrompts}}},
       .read = prompts},
      {.name = "texts", .seeds = {{{"a.jsonl", kTexts}}}, .read = [](const fs::path& f) { read_texts(f / "a.jsonl"); }},
      {.name = "labels and pairs",
       .seeds = {{{"a.jsonl", kLabels}}, {{"a.jsonl", kScores}}, {{"a.jsonl", kPairs}}},
       .read = [](const fs::path& f) { read_reward_texts(f / "a.jsonl"); }}};
}

const char* const kConfig = R"(include: base.yaml
model: {path: "${HOME:-models}/ref", dtype: "bf16"}
sampling:
  temperature: 2        # a whole number where a number is needed
  top_k: +40
  greedy: yes
  method: ppo
  schedule:
    decay: 1e-4
lists:
  names: [a, "b c", 'true', 3]
  sizes: &sizes 7
  rates:
    - .5
    - 1.5e+3
  flags: [true, off]
  roles: {rollout: 2, scorer: 1}
)";
const char* const kBase = "sampling: {temperature: 1.5}\nlists:\n  label: >-\n    folded\n    text\n  limit: ~\n";
const char* const kScaling = R"({"format": "vbon.scaling", "schema_version": 1, "ranks": [1, 2, 4],
  "terms": {"fixed": 0.5, "compute": 0.04, "update": 0.02, "latency": 0.1, "bytes": 1e-6},
  "gradient_bytes": 9408, "relative_error": 0.03,
  "measured_with": {"train.method": "vbon", "sampling.max_new_tokens": 8, "cluster.threads": 0, "x": null}})";
const char* const kGrid = R"(name: objectives
config: base.yaml
dir: runs/x
seeds: [1, 2]
launch: [jobs/mpirun.sh, -n, 3]
set: {eval.samples: 64}
runs:
  - name: vbon
    set: {train.method: vbon}
    product: {vbon.N: [2, 4, 8], vbon.objective: [exact, L]}
  - set: {train.method: dpo}
    zip: {preference.beta: [0.1, 1], optimizer.learning_rate: [1e-5, 3e-6]}
slurm: {partition: gpu, time: "04:00:00"}
)";

const char* const kSections = R"(reward:
  kind: ngram
  path: models/r
  train: {labels: l.jsonl, layers: last 2, ngram: {order: 3}}
rewards:
  short: {kind: exec, command: [python3, short.py], id: v1, timeout_s: 5m}
sampling: {temperature: 0.7, max_new_tokens: 8}
amortised: {path: head, weight: 2}
vbon: {beta: 0.25, objective: L1}
ppo: {baseline: rloo, kl_form: exact, kl_coef: none, epochs: 2}
mixture: {b: 0.3}
bond: {quantile: anchor, gamma: 0.1}
anchor: {samples: 4, rate: 1}
regression: {batch: 64, samples_per_prompt: 8, credit: prefix, warmup: ~}
bon_sft: {best: drawn}
preference: {labels: soft}
bonbon: {alpha: 0.5}
cluster:
  roles: {rollout: 2, scorer: 1, learner: 1}
  lag: 1
  device: cpu
rollouts: {keep: last 3}
checkpoint: {keep: all, before_end: 300s}
)";

// The sections of the configuration (train/settings.hpp) that do without LibTorch, with every type of leaf but
// `all | last K` of what is trained.
struct Sections {
  RewardConfig reward;
  std::map<std::string, RewardConfig> rewards;
  SamplingConfig sampling;
  AmortisedSection amortised;
  VbonConfig vbon;
  PpoConfig ppo;
  MixtureSection mixture;
  BondSection bond;
  AnchorSection anchor;
  RegressionSection regression;
  BonSftSection bon_sft;
  PreferenceSection preference;
  BonbonSection bonbon;
  comm::ClusterConfig cluster;
  RolloutsConfig rollouts;
  CheckpointConfig checkpoint;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.reward, {.name = "reward", .help = "the reward"});
    v(c.rewards, {.name = "rewards", .help = "more of them"});
    v(c.sampling, {.name = "sampling", .help = "how responses are drawn"});
    v(c.amortised, {.name = "amortised", .help = "F from an embedding"});
    v(c.vbon, {.name = "vbon", .help = "the target"});
    v(c.ppo, {.name = "ppo", .help = "the policy gradient"});
    v(c.mixture, {.name = "mixture", .help = "both directions of the KL"});
    v(c.bond, {.name = "bond", .help = "method bond"});
    v(c.anchor, {.name = "anchor", .help = "what follows the policy"});
    v(c.regression, {.name = "regression", .help = "method regression"});
    v(c.bon_sft, {.name = "bon_sft", .help = "method bon_sft"});
    v(c.preference, {.name = "preference", .help = "methods of pairs"});
    v(c.bonbon, {.name = "bonbon", .help = "method bonbon"});
    v(c.cluster, {.name = "cluster", .help = "ranks"});
    v(c.rollouts, {.name = "rollouts", .help = "which stay"});
    v(c.checkpoint, {.name = "checkpoint", .help = "which stay"});
  }
};

void refuse_problems(const Sections& s) {
  std::vector<std::string> found;
  const auto add = [&found](std::vector<std::string> more) {
    std::move(more.begin(), more.end(), std::back_inserter(found));
  };
  add(problems(s.reward, "reward"));
  add(training_problems(s.reward, "reward"));
  for (const auto& [name, reward] : s.rewards) add(problems(reward, "rewards." + name));
  add(problems(s.sampling, /*allow_truncation=*/false));
  add(problems(s.amortised));
  add(problems(s.vbon));
  add(problems(s.ppo, LoopMethod::vbon, 4));
  add(problems(s.mixture));
  add(problems(s.anchor));
  add(problems(s.regression));
  add(problems(s.bon_sft));
  add(problems(s.preference));
  add(problems(s.bonbon));
  add(comm::problems_of(s.cluster));
  throw_if_any(found);
}

template <class T>
T load(const fs::path& folder) {
  const auto loaded = load_config<T>({.file = folder / "c.yaml"});
  const auto again = load_config_text<T>(loaded.resolved_yaml, "again");
  if (again.hash() != loaded.hash()) throw std::runtime_error("the printed configuration reads back differently");
  return loaded.value;
}

std::vector<Reader> configurations() {
  return {
      {.name = "configuration",
       .seeds = {{{"c.yaml", kConfig}, {"base.yaml", kBase}}},
       .read = [](const fs::path& f) { load<test::Config>(f); }},
      {.name = "sections",
       .seeds = {{{"c.yaml", kSections}}},
       .read = [](const fs::path& f) { refuse_problems(load<Sections>(f)); }},
      {.name = "grid", .seeds = {{{"g.yaml", kGrid}}}, .read = [](const fs::path& f) { cli::read_grid(f / "g.yaml"); }},
      {.name = "scaling.json", .seeds = {{{"scaling.json", kScaling}}}, .read = [](const fs::path& f) {
         step_times(parse_step_model(read_file(f / "scaling.json"), "scaling.json"), 8, 1e3, 4, 1e6);
       }}};
}

}  // namespace

std::vector<Reader> text_readers() {
  std::vector<Reader> all = tokenizers();
  for (auto& more : {records(), configurations()}) all.insert(all.end(), more.begin(), more.end());
  return all;
}

}  // namespace vbon::fuzz
