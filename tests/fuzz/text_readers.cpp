#include <array>
#include <stdexcept>

#include "cli/sweep_grid.hpp"
#include "fuzz/readers.hpp"
#include "unit/cli/sample_config.hpp"
#include "vbon/base/files.hpp"
#include "vbon/cli/yaml.hpp"
#include "vbon/text/prompts.hpp"
#include "vbon/text/records.hpp"
#include "vbon/text/tokenizer.hpp"

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

std::vector<Reader> configurations() {
  const auto load = [](const fs::path& folder) {
    const auto loaded = load_config<test::Config>({.file = folder / "c.yaml"});
    const auto again = load_config_text<test::Config>(loaded.resolved_yaml, "again");
    if (again.hash() != loaded.hash()) throw std::runtime_error("the printed configuration reads back differently");
  };
  return {{.name = "configuration", .seeds = {{{"c.yaml", kConfig}, {"base.yaml", kBase}}}, .read = load},
          {.name = "grid", .seeds = {{{"g.yaml", kGrid}}}, .read = [](const fs::path& f) {
             cli::read_grid(f / "g.yaml");
           }}};
}

}  // namespace

std::vector<Reader> text_readers() {
  std::vector<Reader> all = tokenizers();
  for (auto& more : {records(), configurations()}) all.insert(all.end(), more.begin(), more.end());
  return all;
}

}  // namespace vbon::fuzz
